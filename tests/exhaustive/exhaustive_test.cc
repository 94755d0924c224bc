// The exhaustive test, a small part of it; and the test of that test: told
// something wrong, it finds differences.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "bench/exhaustive/cases.h"
#include "bench/exhaustive/check.h"
#include "shadowmmu/registers.h"

namespace shadowmmu::exhaustive {
namespace {

constexpr uint64_t kCases = 20'000;

std::string ReportsOf(const Checker& checker) {
  std::string text;
  for (const std::string& report : checker.reports()) text += report + "\n";
  return text;
}

// ---- All is well ----

class Exhaustive : public ::testing::TestWithParam<GuestMode> {
 protected:
  const CaseSpace cases_{GetParam()};
};

std::string ModeName(const ::testing::TestParamInfo<GuestMode>& info) {
  std::string name = NameOf(info.param);
  std::erase(name, '-');
  return "Of" + name;
}

INSTANTIATE_TEST_SUITE_P(Modes, Exhaustive, ::testing::ValuesIn(kModes),
                         ModeName);

TEST_P(Exhaustive, FindsNoDifference) {
  Checker checker(&cases_);
  for (uint64_t i = 0; i < kCases; ++i) {
    checker.Run(PickedIndex(i, kCases, cases_.count(), 11));
  }
  EXPECT_EQ(checker.totals().cases, kCases);
  EXPECT_EQ(checker.totals().differences, 0u) << ReportsOf(checker);
  // What is counted apart is there, and is not much.
  const Totals& totals = checker.totals();
  EXPECT_GT(totals.left_over[0], 0u);
  EXPECT_LT(
      totals.let_through[0] + totals.let_through[1] + totals.let_through[2],
      kCases / 100);
}

TEST_P(Exhaustive, FindsTheSameInAnyOrder) {
  Checker up(&cases_);
  Checker down(&cases_);
  constexpr uint64_t kFew = 4000;
  const uint64_t begin = cases_.count() / 3;
  for (uint64_t i = 0; i < kFew; ++i) {
    up.Run(begin + i);
    down.Run(begin + kFew - 1 - i);
  }
  EXPECT_EQ(up.totals().differences, 0u) << ReportsOf(up);
  EXPECT_EQ(down.totals().differences, 0u) << ReportsOf(down);
  EXPECT_EQ(up.totals().let_through, down.totals().let_through);
  EXPECT_EQ(up.totals().left_over, down.totals().left_over);
}

// ---- Single cases ----

class ExhaustiveCase : public ::testing::Test {
 protected:
  // The explicit supervisor access of a type.
  size_t Supervisor(AccessType type) const {
    const std::vector<AccessShape> accesses = AccessesWith(registers_);
    const auto found = std::find(
        accesses.begin(), accesses.end(),
        AccessShape{.type = type, .privilege = Privilege::kSupervisor});
    return static_cast<size_t>(found - accesses.begin());
  }
  void Run(EntryBits pde, size_t first, size_t access) {
    checker_.Run(cases_.IndexOf({.mode = cases_.mode(),
                                 .registers = registers_,
                                 .entries = {pde, kAnyPte},
                                 .first = first,
                                 .access = access}));
    EXPECT_EQ(checker_.totals().differences, 0u) << ReportsOf(checker_);
  }

  static constexpr EntryBits kLarge =
      bit::kPresent | bit::kUser | bit::kPageSize;
  const RegisterSet registers_{.no_execute = true};
  const CaseSpace cases_{GuestMode::kFourLevel};
  Checker checker_{&cases_};
};

// With CR0.WP clear the guest's supervisor wrote to a part of a large page that
// is read-only; then the guest clears its D bit. The next write sets it, to
// whatever part of the page it goes.
TEST_F(ExhaustiveCase, ADirtyBitIsSetAgainBesideAFixUp) {
  // One of these cases changes nothing else in between (Before::kNothing).
  for (const EntryBits bits : {EntryBits{0}, bit::kAccessed, bit::kNoExecute}) {
    for (size_t first = 0; first < AccessesWith(registers_).size(); ++first) {
      Run(kLarge | bit::kChangedBetween | bits, 1 + first,
          Supervisor(AccessType::kRead));
    }
  }
}

TEST_F(ExhaustiveCase, TheHostDecidesHowLargeAPageIsShadowed) {
  Run(kLarge, 0, Supervisor(AccessType::kRead));
  ASSERT_TRUE(checker_.found().has_value());
  EXPECT_EQ(checker_.found()->level, Level::k4K);
  Run(kLarge | bit::kHost2M, 0, Supervisor(AccessType::kRead));
  ASSERT_TRUE(checker_.found().has_value());
  EXPECT_EQ(checker_.found()->level, Level::k2M);
}

// ---- Something is wrong ----

struct Lie {
  const char* name;
  GuestMode mode;
  Lies lies;
};
std::ostream& operator<<(std::ostream& os, const Lie& lie) {
  return os << lie.name;
}

std::string LieName(const ::testing::TestParamInfo<Lie>& info) {
  return info.param.name;
}

class ExhaustiveLie : public ::testing::TestWithParam<Lie> {};

constexpr uint64_t kW = 2, kU = 4, kA = 0x20, kD = 0x40;
constexpr uint64_t kKey1 = uint64_t{1} << 59;
constexpr uint64_t kNx = uint64_t{1} << 63;

INSTANTIATE_TEST_SUITE_P(
    Lies, ExhaustiveLie,
    ::testing::Values(
        Lie{"WpIn2Level", GuestMode::kTwoLevel, {.cr0 = cr0::kWp}},
        Lie{"WpIn4Level", GuestMode::kFourLevel, {.cr0 = cr0::kWp}},
        Lie{"Smep", GuestMode::kPae, {.cr4 = cr4::kSmep}},
        Lie{"Smap", GuestMode::kFourLevel, {.cr4 = cr4::kSmap}},
        Lie{"Pke", GuestMode::kFiveLevel, {.cr4 = cr4::kPke}},
        Lie{"Pse", GuestMode::kTwoLevel, {.cr4 = cr4::kPse}},
        Lie{"UserOfPte", GuestMode::kPae, {.entries = {.pte = kU}}},
        Lie{"UserOfPde", GuestMode::kTwoLevel, {.entries = {.pde = kU}}},
        Lie{"WritableOfPte", GuestMode::kTwoLevel, {.entries = {.pte = kW}}},
        Lie{"WritableOfPde", GuestMode::kFourLevel, {.entries = {.pde = kW}}},
        Lie{"AccessedOfPte", GuestMode::kTwoLevel, {.entries = {.pte = kA}}},
        Lie{"DirtyOfPde", GuestMode::kPae, {.entries = {.pde = kD}}},
        Lie{"KeyOfPte", GuestMode::kFourLevel, {.entries = {.pte = kKey1}}},
        Lie{"NoExecuteOfPte", GuestMode::kFiveLevel, {.entries = {.pte = kNx}}},
        Lie{"AddressOfPte", GuestMode::kPae, {.entries = {.pte = 0x1000}}},
        Lie{"NotPresentPte", GuestMode::kPae, {.entries = {.pte = 1}}}),
    LieName);

TEST_P(ExhaustiveLie, IsFound) {
  const CaseSpace cases(GetParam().mode);
  Checker checker(&cases, GetParam().lies);
  for (uint64_t i = 0; i < kCases; ++i) {
    checker.Run(PickedIndex(i, kCases, cases.count(), 5));
  }
  EXPECT_GT(checker.totals().differences, kCases / 1000);
  EXPECT_EQ(checker.reports().size(), Checker::kMostReports);
}

}  // namespace
}  // namespace shadowmmu::exhaustive
