// The numbering of the exhaustive test's cases: nothing is missing, nothing is
// there twice, and a shard is what it says.

#include "bench/exhaustive/cases.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <set>
#include <string>
#include <tuple>
#include <vector>

namespace shadowmmu::exhaustive {
namespace {

class CasesOf : public ::testing::TestWithParam<GuestMode> {
 protected:
  const CaseSpace cases_{GetParam()};
};

std::string ModeName(const ::testing::TestParamInfo<GuestMode>& info) {
  std::string name = NameOf(info.param);
  std::erase(name, '-');
  return "Of" + name;
}

INSTANTIATE_TEST_SUITE_P(Modes, CasesOf, ::testing::ValuesIn(kModes), ModeName);

TEST_P(CasesOf, HaveANumberEach) {
  constexpr uint64_t kSamples = 20'000;
  for (uint64_t i = 0; i < kSamples; ++i) {
    const uint64_t index = PickedIndex(i, kSamples, cases_.count(), 7);
    ASSERT_EQ(cases_.IndexOf(cases_.At(index)), index);
  }
  EXPECT_EQ(cases_.IndexOf(cases_.At(0)), 0u);
  EXPECT_EQ(cases_.IndexOf(cases_.At(cases_.count() - 1)), cases_.count() - 1);
}

TEST_P(CasesOf, AreAllDifferentNextToEachOther) {
  // Over the edge of two sets of registers.
  const uint64_t edge = cases_.block(1).begin;
  for (uint64_t index = edge - 3000; index < edge + 3000; ++index) {
    ASSERT_NE(cases_.At(index), cases_.At(index + 1)) << index;
  }
}

TEST(Cases, AreThisMany) {
  EXPECT_EQ(CaseSpace(GuestMode::kTwoLevel).count(), 787'360u);
  EXPECT_EQ(CaseSpace(GuestMode::kPae).count(), 2'113'104u);
  EXPECT_EQ(CaseSpace(GuestMode::kFourLevel).count(), 48'922'608u);
  EXPECT_EQ(CaseSpace(GuestMode::kFiveLevel).count(), 48'922'608u);
}

// ---- Counted once more, by looking at every combination of bits ----

// Is it a pair that cases.h says is tried?
bool IsTried(GuestMode mode, const RegisterSet& registers, EntryPair pair) {
  const auto [pde, pte] = pair;
  const bool short_entries = mode == GuestMode::kTwoLevel;
  const EntryBits host = bit::kHost2M | bit::kChangedBetween;
  if ((pte & (bit::kPageSize | host)) != 0) return false;
  if ((pde & host) == host) return false;
  if (!registers.keys && ((pde | pte) & bit::kKey) != 0) return false;
  if (short_entries && ((pde | pte) & bit::kNoExecute) != 0) return false;
  if (short_entries && (pte & bit::kReserved) != 0) return false;

  const bool large = (pde & bit::kPageSize) != 0;
  if (large && short_entries && !registers.pse) return false;
  if (!large && (pde & (host | bit::kDirty | bit::kKey)) != 0) return false;
  if (!large && short_entries && (pde & bit::kReserved) != 0) return false;

  const bool present = (pde & bit::kPresent) != 0;
  if (!present && pde != 0) return false;
  if ((pte & bit::kPresent) == 0 && pte != 0) return false;
  const bool reserved = (pde & bit::kReserved) != 0 ||
                        ((pde & bit::kNoExecute) != 0 && !registers.no_execute);
  const bool leads_to_table = present && !large && !reserved;
  return leads_to_table || pte == kAnyPte;
}

void ExpectAllTried(GuestMode mode, const RegisterSet& registers) {
  const std::vector<EntryPair> list = EntriesWith(mode, registers);
  ASSERT_TRUE(std::is_sorted(list.begin(), list.end()));
  auto at = list.begin();
  for (EntryBits pde = 0; pde < bit::kEnd; ++pde) {
    for (EntryBits pte = 0; pte < bit::kHost2M; ++pte) {
      if (!IsTried(mode, registers, {pde, pte})) continue;
      ASSERT_TRUE(at != list.end()) << pde << " " << pte;
      ASSERT_EQ(*at, (EntryPair{pde, pte})) << pde << " " << pte;
      ++at;
    }
  }
  EXPECT_TRUE(at == list.end());
}

TEST(Cases, HaveEveryPairOfEntries) {
  for (const bool yes : {false, true}) {
    ExpectAllTried(GuestMode::kTwoLevel, {.pse = yes});
    ExpectAllTried(GuestMode::kPae, {.no_execute = yes});
    ExpectAllTried(GuestMode::kFourLevel, {.no_execute = yes, .keys = true});
    ExpectAllTried(GuestMode::kFiveLevel, {.no_execute = yes});
  }
}

TEST(Cases, HaveEveryAccess) {
  for (const bool smap : {false, true}) {
    for (const bool keys : {false, true}) {
      const std::vector<AccessShape> accesses =
          AccessesWith({.smap = smap, .keys = keys});
      std::set<std::tuple<AccessType, Privilege, Implicit, bool, bool, bool>>
          different;
      for (const AccessShape& a : accesses) {
        different.insert({a.type, a.privilege, a.implicit, a.eflags_ac,
                          a.access_disable, a.write_disable});
      }
      EXPECT_EQ(different.size(), accesses.size());
      EXPECT_LE(accesses.size(), 64u);
      // User, supervisor (twice with SMAP), implicit at two CPLs.
      const size_t who = smap ? 5 : 4;
      EXPECT_EQ(accesses.size(), who * 2 * (keys ? 4 : 1) + 2);
    }
  }
}

TEST(Cases, DenyEverythingToOtherKeys) {
  const AccessShape free{.access_disable = false, .write_disable = false};
  EXPECT_EQ(ToAccess(free, 0).pkru, 0xffff'fffcu);
  EXPECT_EQ(ToAccess(free, 5).pkru, 0xffff'f3ffu);
  const AccessShape read_only{.access_disable = false, .write_disable = true};
  EXPECT_EQ(ToAccess(read_only, 5).pkru, 0xffff'fbffu);
}

// ---- Shards ----

TEST(Shard, OfEverythingIsEverything) {
  for (uint64_t i = 0; i < 1000; ++i) {
    ASSERT_EQ(PickedIndex(i, 1000, 1000, 3), i);
  }
}

TEST(Shard, RisesAndDependsOnItsSeed) {
  constexpr uint64_t kCount = 100'000'007, kPicked = 5000;
  uint64_t same = 0;
  uint64_t last = 0;
  for (uint64_t i = 0; i < kPicked; ++i) {
    const uint64_t index = PickedIndex(i, kPicked, kCount, 1);
    ASSERT_LT(index, kCount);
    if (i > 0) {
      ASSERT_GT(index, last);
    }
    last = index;
    if (index == PickedIndex(i, kPicked, kCount, 2)) ++same;
  }
  EXPECT_LT(same, kPicked / 100);
}

}  // namespace
}  // namespace shadowmmu::exhaustive
