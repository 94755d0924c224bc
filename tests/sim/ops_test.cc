#include "tests/harness/ops.h"

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/harness/choices.h"
#include "tests/harness/op_text.h"
#include "tests/harness/simulator.h"

namespace shadowmmu::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string ErrorOf(std::string_view text) {
  return std::string(ParseStream(text).status().message());
}

// Every kind, with every field at values of every size.
OpStream EveryOp(uint64_t seed) {
  Choices choices(seed);
  OpStream stream;
  for (size_t kind = 0; kind < kOpKinds; ++kind) {
    Op op(static_cast<OpKind>(kind));
    const OpShape& shape = ShapeOf(op.kind());
    for (size_t i = 0; i < shape.field_count(); ++i) {
      if (choices.Percent(30)) continue;
      const uint64_t any = choices.Next();
      op.Set(shape.fields[i], any >> choices.Below(64));
    }
    if (shape.has_bytes) {
      op.SetBytes(std::vector<uint8_t>(choices.Below(20), 0xa5));
    }
    stream.ops.push_back(op);
  }
  return stream;
}

TEST(OpTable, EveryOpHasANameOfItsOwn) {
  std::set<std::string_view> names;
  for (size_t kind = 0; kind < kOpKinds; ++kind) {
    names.insert(ShapeOf(static_cast<OpKind>(kind)).name);
  }
  EXPECT_EQ(names.size(), kOpKinds);
}

TEST(OpTable, NoOpHasTwoFieldsOfOneName) {
  for (size_t kind = 0; kind < kOpKinds; ++kind) {
    const OpShape& shape = ShapeOf(static_cast<OpKind>(kind));
    std::set<std::string_view> names;
    for (size_t i = 0; i < shape.field_count(); ++i) {
      names.insert(InfoOf(shape.fields[i]).name);
    }
    EXPECT_EQ(names.size(), shape.field_count()) << shape.name;
  }
}

TEST(OpText, WhatIsPrintedParsesToTheSame) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    OpStream stream = EveryOp(seed);
    stream.vm = {.vcpus = 4, .frames = 7, .tables = 28, .largest = 1};
    stream.story = {"A story.", "", "  with a # and an indent"};
    const absl::StatusOr<OpStream> parsed = ParseStream(PrintStream(stream));
    ASSERT_TRUE(parsed.ok()) << parsed.status() << PrintStream(stream);
    ASSERT_EQ(*parsed, stream) << PrintStream(stream);
  }
}

TEST(OpText, SimulatedStreamsSurviveARoundTrip) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const OpStream stream = GenerateStream(seed, {.ops = 200});
    const absl::StatusOr<OpStream> parsed = ParseStream(PrintStream(stream));
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    ASSERT_EQ(*parsed, stream);
  }
}

TEST(OpText, PrintsWordsAndLeavesOutWhatIsAbsent) {
  Op touch(OpKind::kTouch);
  touch.Set(Field::kGva, 0x5000).Set(Field::kType, 1);
  EXPECT_EQ(PrintOp(touch), "touch vcpu=0 gva=0x5000 type=w");
  touch.Set(Field::kPrivilege, 0).Set(Field::kType, 9);
  EXPECT_EQ(PrintOp(touch), "touch vcpu=0 gva=0x5000 type=9 priv=u");
}

TEST(OpText, TakesFieldsInAnyOrderAndNumbersForWords) {
  const absl::StatusOr<OpStream> stream = ParseStream(
      "vm tables=28 frames=8\n"
      "  touch   type=1 gva=20480 vcpu=0x0 # a comment\r\n"
      "\n"
      "slot.flags id=1 flags=ro+log as=1\n");
  ASSERT_TRUE(stream.ok()) << stream.status();
  ASSERT_EQ(stream->ops.size(), 2u);
  EXPECT_EQ(PrintOp(stream->ops[0]), "touch vcpu=0 gva=0x5000 type=w");
  EXPECT_EQ(PrintOp(stream->ops[1]), "slot.flags id=1 flags=ro+log as=1");
  EXPECT_EQ(stream->vm.frames, 8u);
  EXPECT_EQ(stream->vm.vcpus, 1u);
}

TEST(OpText, KeepsTheStoryAndDropsOtherComments) {
  const absl::StatusOr<OpStream> stream =
      ParseStream("# One.\n#\n# Two.\nvm\n# Not this.\nbump # nor this\n");
  ASSERT_TRUE(stream.ok()) << stream.status();
  EXPECT_EQ(stream->story, (std::vector<std::string>{"One.", "", "Two."}));
  EXPECT_EQ(PrintStream(*stream),
            "# One.\n#\n# Two.\n"
            "vm vcpus=1 frames=64 tables=64 largest=1G bits=40 roots=3 "
            "unsync=1 flood=3 prefetch=0 ones=0\nbump\n");
}

TEST(OpText, ErrorsNameTheirLine) {
  EXPECT_EQ(ErrorOf("vm\nbump\nfrobnicate\n"), "line 3: unknown op frobnicate");
  EXPECT_EQ(ErrorOf("# story\nbump\n"), "line 2: expected `vm` before bump");
  EXPECT_EQ(ErrorOf("vm\n\ntouch vcpu=0\n"), "line 3: touch needs gva");
  EXPECT_EQ(ErrorOf("vm\nbump now\n"), "line 2: expected key=value, found now");
  EXPECT_EQ(ErrorOf("vm\nreclaim budget=9 gva=1\n"),
            "line 2: reclaim has no gva");
  EXPECT_EQ(ErrorOf("vm\nreclaim budget=1 budget=1\n"),
            "line 2: given twice: budget");
  EXPECT_EQ(ErrorOf("vm\nwrite gpa=0\n"), "line 2: write needs bytes");
  EXPECT_EQ(ErrorOf("vm\nvm\n"), "line 2: a second `vm`");
  EXPECT_THAT(ErrorOf(""), HasSubstr("no `vm` line"));
}

TEST(OpText, RefusesNumbersThatAreNone) {
  for (const char* value : {"", "0x", "-1", "1x", "0xg", "18446744073709551616",
                            "0x10000000000000000", "many"}) {
    EXPECT_THAT(ErrorOf(std::string("vm\nreclaim budget=") + value),
                StartsWith("line 2: bad value in budget="))
        << value;
  }
  EXPECT_EQ(ErrorOf("vm\nreclaim budget=0xffffffffffffffff"), "");
}

TEST(OpText, RefusesBytesThatAreNone) {
  for (const char* bytes : {"0", "0g", "+1"}) {
    EXPECT_THAT(ErrorOf(std::string("vm\nwrite gpa=0 bytes=") + bytes),
                StartsWith("line 2: bad bytes"));
  }
  const std::string most(2 * kStreamMaxBytes, '0');
  EXPECT_EQ(ErrorOf("vm\nwrite gpa=0 bytes=" + most), "");
  EXPECT_NE(ErrorOf("vm\nwrite gpa=0 bytes=00" + most), "");
}

TEST(OpText, RefusesAVmThatIsTooBig) {
  for (const char* vm :
       {"vcpus=5", "frames=0", "frames=2049", "tables=27", "tables=513",
        "largest=none", "bits=35", "bits=53", "roots=4", "flood=256"}) {
    EXPECT_EQ(ErrorOf(std::string("vm ") + vm),
              "line 1: a number of `vm` is out of bounds")
        << vm;
  }
  EXPECT_EQ(ErrorOf("vm cpus=1"), "line 1: `vm` has no cpus");
}

TEST(OpText, AnyBytesGiveAStreamOrAnError) {
  Choices choices(1);
  const std::string seed = PrintStream(EveryOp(3));
  for (int i = 0; i < 2000; ++i) {
    std::string text = seed;
    for (int change = 0; change < 4; ++change) {
      const size_t at = static_cast<size_t>(choices.Below(text.size()));
      text[at] = static_cast<char>(choices.Below(256));
    }
    const absl::StatusOr<OpStream> stream = ParseStream(text);
    if (!stream.ok()) {
      EXPECT_THAT(std::string(stream.status().message()), StartsWith("line "));
    }
  }
}

TEST(Op, IsMadeWithEveryFieldAbsent) {
  const Op create(OpKind::kSlotCreate);
  EXPECT_EQ(create.Get(Field::kPages), 1u);
  EXPECT_EQ(create.Get(Field::kFlags), 0u);
  // A field of other kinds.
  EXPECT_FALSE(create.Has(Field::kGva));
  EXPECT_EQ(create.Get(Field::kSize), InfoOf(Field::kSize).absent);
}

}  // namespace
}  // namespace shadowmmu::testing
