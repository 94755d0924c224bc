#include "tests/harness/simulator.h"

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "shadowmmu/check_handler.h"
#include "tests/harness/choices.h"
#include "tests/harness/interpreter.h"
#include "tests/harness/op_text.h"
#include "tests/harness/shrinker.h"

namespace shadowmmu::testing {
namespace {

constexpr uint64_t kDefaultSeeds = 400;
constexpr SimulatorOptions kOptions = {.ops = 200};

// How many seeds to run: the environment variable SHADOWMMU_SIM_SEEDS.
uint64_t SeedCount() {
  const char* const text = std::getenv("SHADOWMMU_SIM_SEEDS");
  return text == nullptr ? kDefaultSeeds : std::strtoull(text, nullptr, 10);
}

// So that a failed check says which seed it was.
uint64_t seed_under_way = 0;
void SayWhichSeed(absl::string_view message) {
  std::cerr << message << "\nin seed " << seed_under_way
            << "; to see it small: shadowmmu_simulate --ops " << kOptions.ops
            << " --seeds " << seed_under_way << std::endl;
}

uint64_t HashOf(const std::string& text) {
  uint64_t hash = 0xcbf2'9ce4'8422'2325;  // FNV-1a
  for (const char c : text) {
    hash = (hash ^ static_cast<uint8_t>(c)) * 0x100'0000'01b3;
  }
  return hash;
}

TEST(Simulator, NoSeedFindsAnythingWrong) {
  const CheckHandler before = SetCheckHandler(&SayWhichSeed);
  const uint64_t seeds = SeedCount();
  ASSERT_GT(seeds, 0u) << "SHADOWMMU_SIM_SEEDS is no number";
  for (uint64_t seed = 1; seed <= seeds; ++seed) {
    seed_under_way = seed;
    const OpStream stream = GenerateStream(seed, kOptions);
    if (!RunStream(stream)) continue;
    const OpStream small = Shrink(stream, [](const OpStream& candidate) {
      return RunStream(candidate).has_value();
    });
    const std::optional<StreamFailure> failure = RunStream(small);
    ADD_FAILURE() << "seed " << seed << ": " << ReportOf(small, *failure);
    break;
  }
  SetCheckHandler(before);
}

TEST(Simulator, ASeedIsTheSameStreamEverywhere) {
  const std::string once = PrintStream(GenerateStream(7, {.ops = 300}));
  EXPECT_EQ(once, PrintStream(GenerateStream(7, {.ops = 300})));
  EXPECT_NE(once, PrintStream(GenerateStream(8, {.ops = 300})));
  // With any compiler. Whoever changes the simulator writes the new number
  // here, and lets the other compiler confirm it.
  EXPECT_EQ(HashOf(once), 2610798175726912327u);
}

TEST(Simulator, AnyBytesGiveAStreamThatRuns) {
  Choices choices(99);
  for (int i = 0; i < 50; ++i) {
    std::vector<uint8_t> bytes(static_cast<size_t>(choices.Below(2000)));
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(choices.Next());
    const OpStream stream = GenerateStream(bytes, {.ops = 100});
    EXPECT_EQ(ClampVm(stream.vm), stream.vm);
    const std::optional<StreamFailure> failure = RunStream(stream);
    ASSERT_FALSE(failure) << ReportOf(stream, *failure);
  }
}

}  // namespace
}  // namespace shadowmmu::testing
