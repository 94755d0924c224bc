// Lines of a lackey trace, good and damaged.

#include "bench/replay/trace_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <tuple>

#include "absl/status/status.h"

namespace shadowmmu::replay {
namespace {

using ::testing::HasSubstr;
using ::testing::Values;

TraceAccess AccessOf(absl::string_view line) {
  const absl::StatusOr<TraceLine> parsed = ParseTraceLine(line);
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  if (!parsed.ok()) return {};
  EXPECT_EQ(parsed->kind, TraceLine::Kind::kAccess) << line;
  return parsed->access;
}

TEST(TraceLineTest, AFetchIsRead) {
  EXPECT_EQ(AccessOf("I  0401ab70,3"),
            (TraceAccess{Gva(0x401'ab70), 3, TraceKind::kFetch}));
}

TEST(TraceLineTest, ALoadIsRead) {
  EXPECT_EQ(AccessOf(" L 1fff000c78,8"),
            (TraceAccess{Gva(0x1f'ff00'0c78), 8, TraceKind::kLoad}));
}

TEST(TraceLineTest, AStoreIsRead) {
  EXPECT_EQ(AccessOf(" S 04a1ade0,16"),
            (TraceAccess{Gva(0x4a1'ade0), 16, TraceKind::kStore}));
}

TEST(TraceLineTest, AModifyIsReadAndNeedsToWrite) {
  const TraceAccess access = AccessOf(" M 04a1ade0,4");
  EXPECT_EQ(access, (TraceAccess{Gva(0x4a1'ade0), 4, TraceKind::kModify}));
  EXPECT_EQ(access.needs(), AccessType::kWrite);
}

TEST(TraceLineTest, AnAccessOf32BytesMayCrossPages) {
  const TraceAccess access = AccessOf(" L 04a1aff0,32");
  EXPECT_FALSE(access.in_one_page());
  EXPECT_EQ(access.last(), Gva(0x4a1'b00f));
}

TEST(TraceLineTest, AnAccessUpToTheEndOfItsPageDoesNotCross) {
  EXPECT_TRUE(AccessOf(" L 04a1afe0,32").in_one_page());
}

TEST(TraceLineTest, AVeryLargeAccessIsRead) {
  EXPECT_EQ(AccessOf(" S 1000,65536").bytes, 65536u);
}

TEST(TraceLineTest, TheLastUserAddressIsRead) {
  EXPECT_EQ(AccessOf(" L 7fffffffffff,1").last(), kUserEnd - 1);
}

TEST(TraceLineTest, ALineOfValgrindsIsARemark) {
  for (const char* line :
       {"==23305== Lackey, an example Valgrind tool", "==23305== ", "==",
        "--23305-- WARNING: unhandled amd64-linux syscall: 999",
        "**23305** printed by the program"}) {
    const absl::StatusOr<TraceLine> parsed = ParseTraceLine(line);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(parsed->kind, TraceLine::Kind::kRemark) << line;
  }
}

TEST(TraceLineTest, ValgrindsLastWordIsTheTrailer) {
  for (const char* line :
       {"==23305== Exit code:       0", "==1== Exit code: 139"}) {
    const absl::StatusOr<TraceLine> parsed = ParseTraceLine(line);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(parsed->kind, TraceLine::Kind::kTrailer) << line;
  }
}

TEST(TraceLineTest, ATrailerThatIsCutIsNone) {
  for (const char* line : {"==23305== Exit code:", "==23305== Exit co",
                           "==23305== Exit code: x", "== Exit code: 0"}) {
    const absl::StatusOr<TraceLine> parsed = ParseTraceLine(line);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(parsed->kind, TraceLine::Kind::kRemark) << line;
  }
}

using Damage = std::tuple<const char*, const char*>;
class DamagedLineTest : public ::testing::TestWithParam<Damage> {};

TEST_P(DamagedLineTest, IsRefusedWithAReason) {
  const absl::StatusOr<TraceLine> parsed =
      ParseTraceLine(std::get<0>(GetParam()));
  ASSERT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(parsed.status().message()),
              HasSubstr(std::get<1>(GetParam())));
}

INSTANTIATE_TEST_SUITE_P(
    All, DamagedLineTest,
    Values(Damage{"", "neither"}, Damage{"hello", "neither"},
           Damage{"I 0401ab70,3", "neither"}, Damage{"L 0401ab70,3", "neither"},
           Damage{" X 0401ab70,3", "neither"},
           Damage{"-- no number --", "neither"}, Damage{"I  ", "no hexa"},
           Damage{"I  ,3", "no hexa"}, Damage{"I  xyz,3", "no hexa"},
           Damage{"I  00000000000000001,3", "no hexa"},
           Damage{"I  0401ab70", "no size"}, Damage{"I  0401ab70,", "no size"},
           Damage{"I  0401ab70 3", "no size"},
           Damage{"I  0401ab70,-3", "no size"},
           Damage{"I  0401ab70,99999999999", "no size"},
           Damage{"I  0401ab70,3 ", "follows"},
           Damage{"I  0401ab70,3\r", "follows"},
           Damage{"I  0401ab70,3I  0401ab73,5", "follows"},
           Damage{"I  0401ab70,0", "a size not in"},
           Damage{"I  0401ab70,65537", "a size not in"},
           Damage{" L 7fffffffffff,2", "no user"},
           Damage{" L ffff888000000000,8", "no user"},
           Damage{" L ffffffffffffffff,8", "no user"}));

TEST(TraceLineTest, AnErrorShowsTheLineWithoutItsControlCharacters) {
  const absl::StatusOr<TraceLine> parsed = ParseTraceLine("\x1b[31m\n");
  EXPECT_THAT(std::string(parsed.status().message()), HasSubstr("\\x1b[31m"));
}

}  // namespace
}  // namespace shadowmmu::replay
