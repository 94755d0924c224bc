#include <algorithm>
#include <optional>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/harness/interpreter.h"
#include "tests/harness/isolated.h"
#include "tests/harness/op_text.h"
#include "tests/harness/shrinker.h"
#include "tests/harness/simulator.h"
#include "tests/sim/lying_backend.h"

namespace shadowmmu::testing {
namespace {

using ::testing::HasSubstr;

// Where in the stream an op of this kind stands first, from `from` on.
size_t FirstOf(const OpStream& stream, OpKind kind, size_t from = 0) {
  size_t at = from;
  while (at < stream.ops.size() && stream.ops[at].kind() != kind) ++at;
  return at;
}

TEST(Shrink, LeavesTheFewOpsThatAFailureNeeds) {
  // Planted: a bump, and later a reclaim of at least two pages.
  const auto fails = [](const OpStream& candidate) {
    size_t at = FirstOf(candidate, OpKind::kBump);
    while (at < candidate.ops.size()) {
      at = FirstOf(candidate, OpKind::kReclaim, at + 1);
      if (at < candidate.ops.size() &&
          candidate.ops[at].Get(Field::kBudget) >= 2) {
        return true;
      }
    }
    return false;
  };
  uint64_t seed = 1;
  while (!fails(GenerateStream(seed, {.ops = 400}))) ASSERT_LT(++seed, 100u);
  const OpStream stream = GenerateStream(seed, {.ops = 400});
  const OpStream small = Shrink(stream, fails);
  EXPECT_TRUE(fails(small));
  ASSERT_EQ(small.ops.size(), 2u) << PrintStream(small);
  EXPECT_EQ(small.ops[0].kind(), OpKind::kBump);
  EXPECT_LE(small.ops[0].Get(Field::kTimes), 1u);
  EXPECT_LT(small.ops[1].Get(Field::kBudget), 4u);
  EXPECT_EQ(small.vm.frames, 1u);
}

TEST(Shrink, KeepsToItsBudget) {
  const OpStream stream = GenerateStream(11, {.ops = 400});
  size_t tries = 0;
  Shrink(
      stream,
      [&tries](const OpStream& /*candidate*/) {
        ++tries;
        return false;
      },
      100);
  EXPECT_EQ(tries, 100u);
}

// A whole VM, whose host loses every flush.
bool FailsWithLostFlushes(const OpStream& stream) {
  LyingBackend backend(stream.vm);
  backend.test_host().SetFlushDelivery(Delivery::kLose);
  return RunStream(stream, backend).has_value();
}

TEST(Shrink, MakesARealFailureSmall) {
  uint64_t seed = 1;
  while (!FailsWithLostFlushes(GenerateStream(seed, {.ops = 150}))) {
    ASSERT_LT(++seed, 100u);
  }
  const OpStream small =
      Shrink(GenerateStream(seed, {.ops = 150}), &FailsWithLostFlushes, 1500);
  EXPECT_TRUE(FailsWithLostFlushes(small));
  EXPECT_LE(small.ops.size(), 15u) << PrintStream(small);
  // What it prints is what fails.
  EXPECT_EQ(*ParseStream(PrintStream(small)), small);
}

TEST(Report, HasTheOpTheFindingAndTheStreamSoFar) {
  const OpStream stream =
      *ParseStream("vm vcpus=1 frames=8 tables=28\nbump\nreclaim budget=1\n");
  const std::string report = ReportOf(stream, {0, "planted"});
  EXPECT_THAT(report, HasSubstr("op 0: bump\n  planted\n"));
  EXPECT_THAT(report, HasSubstr("vm vcpus=1 frames=8"));
  EXPECT_EQ(report.find("reclaim"), std::string::npos);
}

TEST(Isolated, TellsWhatTheBodySays) {
  EXPECT_EQ(RunIsolated([] { return std::string(); }, ChildStderr::kShow),
            std::nullopt);
  EXPECT_EQ(
      RunIsolated([] { return std::string("a finding"); }, ChildStderr::kShow),
      "a finding");
}

TEST(Isolated, ADeathIsAFailure) {
  const std::optional<std::string> died =
      RunIsolated([]() -> std::string { std::abort(); }, ChildStderr::kDiscard);
  ASSERT_TRUE(died);
  EXPECT_THAT(*died, HasSubstr("it died of signal"));
}

TEST(Isolated, ALoopWithoutEndIsAFailure) {
  const std::optional<std::string> hung = RunIsolated(
      []() -> std::string {
        for (volatile bool forever = true; forever;) {
        }
        return "";
      },
      ChildStderr::kDiscard, 1);
  ASSERT_TRUE(hung);
  EXPECT_THAT(*hung, HasSubstr("did not end within 1 seconds"));
}

}  // namespace
}  // namespace shadowmmu::testing
