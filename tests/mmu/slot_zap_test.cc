// A slot goes: whichever way, nothing that was made from it is left; and each
// way leaves of the others what it says.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>

#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {
namespace {

using ::testing::HasSubstr;

constexpr AddressSpace kNormal = AddressSpace::kNormal;
constexpr AddressSpace kSmm = AddressSpace::kSmm;
constexpr uint64_t kAll = gpte::kWritable | gpte::kUser;
constexpr SlotId kMain{0};
constexpr SlotId kGoing{1};

// Guest tables in a slot that stays, and in one that goes; both have data.
class SlotZap : public ::testing::Test {
 protected:
  static constexpr GfnRange kStaying{Gfn(0), 2048};
  static constexpr GfnRange kGoingGfns{Gfn(0x1010), 1200};
  static constexpr Gva kStays{0x40'0000'0000};
  static constexpr Gva kGoes{0x50'0000'0000};

  SlotZap() {
    vm_.AddSlot({.id = kMain, .base = kStaying.begin, .pages = kStaying.pages});
    vm_.AddSlot(
        {.id = kGoing, .base = kGoingGfns.begin, .pages = kGoingGfns.pages});
    cpu_ = &vm_.AddVcpu();
    tables_ = &vm_.UseTables(*cpu_, {Gfn(16), 300});
  }
  ~SlotZap() override { EXPECT_EQ(vm_.Violations(), ""); }

  void Map(Gva gva, Gfn gfn) {
    ASSERT_TRUE(tables_->Map(gva, ToGpa(gfn), Level::k4K, kAll).ok());
  }
  void Use(Gva gva, Gfn gfn) {
    Map(gva, gfn);
    ASSERT_TRUE(cpu_->Touch(gva, Write()).hit());
  }
  void UseSome() {
    for (uint64_t i = 0; i < 20; ++i) {
      Use(kStays + i * kPageSize, Gfn(1024) + i);
      Use(kGoes + i * kPageSize, kGoingGfns.begin + i * 60);
    }
  }
  Stats Now() { return vm_.mmu().GetStats(); }
  void Delete(SlotZapPolicy policy) { vm_.DeleteSlot(kNormal, kGoing, policy); }
  // Nothing of the slot that went is in reach, all of the other one is.
  void ExpectGone() {
    EXPECT_EQ(vm_.Violations(), "");
    for (uint64_t i = 0; i < 20; ++i) {
      EXPECT_TRUE(cpu_->Touch(kGoes + i * kPageSize, Read())
                      .EndedAs(FaultOutcome::Kind::kEmulate))
          << i;
      EXPECT_TRUE(cpu_->Touch(kStays + i * kPageSize, Write()).hit()) << i;
    }
  }

  SmallVm vm_{SmallVm::Options{.frames = 16'384}};
  GuestVcpu* cpu_ = nullptr;
  GuestTableBuilder* tables_ = nullptr;
};

class EachWay : public SlotZap,
                public ::testing::WithParamInterface<SlotZapPolicy> {};

TEST_P(EachWay, LeavesNothingOfTheSlot) {
  UseSome();
  Delete(GetParam());
  ExpectGone();
}

TEST_P(EachWay, LeavesNothingOfASlotThatMoves) {
  UseSome();
  ASSERT_TRUE(
      vm_.mmu().MoveSlot(kNormal, kGoing, Gfn(0x8000), GetParam()).ok());
  EXPECT_EQ(vm_.RmapLength(Gfn(0x8000)), 0u);
  ExpectGone();
  Map(kGoes, Gfn(0x8000));
  EXPECT_TRUE(cpu_->Touch(kGoes, Write()).hit());
}

TEST_P(EachWay, TakesTheShadowPagesOfTablesInTheSlot) {
  UseSome();
  GuestTableBuilder there(&vm_.memory(), &vm_.untracked(),
                          GfnRange{kGoingGfns.begin + 604, 32});
  ASSERT_TRUE(there.Map(kStays, ToGpa(Gfn(1030)), Level::k4K, kAll).ok());
  const PagingRegisters before = cpu_->mmu().registers();
  ASSERT_TRUE(cpu_->mmu().SetRegisters(LongMode(there.root())).ok());
  ASSERT_TRUE(cpu_->Touch(kStays, Write()).hit());
  Delete(GetParam());
  EXPECT_EQ(vm_.Violations(), "");
  // Its CR3 names no memory any more.
  EXPECT_TRUE(
      cpu_->Touch(kStays, Write()).EndedAs(FaultOutcome::Kind::kMemoryFault));
  ASSERT_TRUE(cpu_->mmu().SetRegisters(before).ok());
  ExpectGone();
}

TEST_P(EachWay, IsToldInStats) {
  UseSome();
  Delete(GetParam());
  const Stats stats = Now();
  EXPECT_EQ(stats.last_slot_zap.asked, GetParam());
  EXPECT_EQ(stats.last_slot_zap.way, GetParam());
  EXPECT_NE(stats.last_slot_zap.estimate.targeted_ns, 0u);
  EXPECT_NE(stats.last_slot_zap.estimate.walk_ns, 0u);
  EXPECT_NE(stats.last_slot_zap.estimate.release_ns, 0u);
  const SlotZapPolicy way = GetParam();
  EXPECT_EQ(stats.slots_zapped_targeted, way == SlotZapPolicy::kTargeted);
  EXPECT_EQ(stats.slots_zapped_by_walk, way == SlotZapPolicy::kWalk);
  EXPECT_EQ(stats.slots_zapped_by_release, way == SlotZapPolicy::kRelease);
}

INSTANTIATE_TEST_SUITE_P(Ways, EachWay,
                         ::testing::Values(SlotZapPolicy::kTargeted,
                                           SlotZapPolicy::kWalk,
                                           SlotZapPolicy::kRelease));

class Targeted : public SlotZap {
 protected:
  void Delete() { SlotZap::Delete(SlotZapPolicy::kTargeted); }
  // The direct pages that begin at this gfn, in either address space.
  size_t DirectPagesAt(Gfn gfn) {
    size_t found = 0;
    for (const PageRecord& page : Dump(vm_.mmu()).pages) {
      const bool direct = page.role.find("direct") != std::string::npos;
      if (direct && page.gfn == gfn) ++found;
    }
    return found;
  }
};

TEST_F(Targeted, LeavesWhatOthersHaveMapped) {
  UseSome();
  const Stats before = Now();
  Delete();
  const Stats after = Now();
  EXPECT_EQ(after.leaf_sptes, before.leaf_sptes - 20);
  EXPECT_EQ(after.pages_zapped, before.pages_zapped) << "tables stay";
  EXPECT_EQ(after.generation_bumps, before.generation_bumps);
  const uint64_t faults = cpu_->counts().faults;
  for (uint64_t i = 0; i < 20; ++i) {
    EXPECT_TRUE(cpu_->Touch(kStays + i * kPageSize, Write()).hit());
  }
  EXPECT_EQ(cpu_->counts().faults, faults);
}

TEST_F(Targeted, FlushesWhoIsInTheGuest) {
  UseSome();
  ASSERT_TRUE(cpu_->mmu().EnterGuest().resume());
  EXPECT_TRUE(cpu_->cpu().Access(kGoes, Write()).hit());
  Delete();
  EXPECT_FALSE(cpu_->cpu().Access(kGoes, Write()).hit());
  EXPECT_TRUE(cpu_->cpu().Access(kStays, Write()).hit());
  cpu_->mmu().ExitGuest();
}

TEST_F(Targeted, OfObsoletePagesTakesTheSptesToo) {
  UseSome();
  vm_.mmu().BumpGeneration();
  Delete();
  EXPECT_EQ(Now().leaf_sptes, 20u);
  ExpectGone();
}

// An unsync page's table is shadowed and not tracked.
TEST_F(Targeted, TakesUnsyncPagesOfTablesInTheSlot) {
  GuestTableBuilder there(&vm_.memory(), &vm_.untracked(),
                          GfnRange{kGoingGfns.begin + 700, 32});
  ASSERT_TRUE(there.Map(kStays, ToGpa(Gfn(1030)), Level::k4K, kAll).ok());
  const Gpa entry = there.EntryAddress(kStays, Level::k4K).value();
  ASSERT_TRUE(there.Map(kGoes, entry, Level::k4K, kAll).ok());
  const PagingRegisters before = cpu_->mmu().registers();
  ASSERT_TRUE(cpu_->mmu().SetRegisters(LongMode(there.root())).ok());
  ASSERT_TRUE(cpu_->Touch(kStays, Write()).hit());
  ASSERT_TRUE(cpu_->Touch(kGoes, Write()).hit());
  ASSERT_NE(Now().unsync_pages, 0u);
  Delete();
  EXPECT_EQ(Now().unsync_pages, 0u);
  EXPECT_EQ(vm_.Violations(), "");
  ASSERT_TRUE(cpu_->mmu().SetRegisters(before).ok());
}

// The other address space has its tables at the same frames, in a slot of its
// own, which stays.
TEST_F(Targeted, LeavesTheOtherAddressSpaceAlone) {
  SlotSpec smm = *vm_.mmu().FindSlot(kNormal, kGoing);
  smm.space = kSmm;
  vm_.AddSlot(smm);
  GuestTableBuilder there(&vm_.memory(), &vm_.untracked(),
                          GfnRange{kGoingGfns.begin + 604, 32});
  ASSERT_TRUE(
      there.Map(kStays, ToGpa(kGoingGfns.begin + 5), Level::k4K, kAll).ok());
  GuestVcpu& other = vm_.AddVcpu();
  ASSERT_TRUE(other.mmu().SetRegisters(LongMode(there.root())).ok());
  ASSERT_TRUE(other.mmu().SetAddressSpace(kSmm).ok());
  ASSERT_TRUE(other.Touch(kStays, Read()).hit());
  // The same tables, as shadowed in the slot that goes.
  GuestVcpu& same = vm_.AddVcpu();
  ASSERT_TRUE(same.mmu().SetRegisters(LongMode(there.root())).ok());
  ASSERT_TRUE(same.Touch(kStays, Read()).hit());
  UseSome();
  const Stats before = Now();
  Delete();
  EXPECT_EQ(Now().leaf_sptes, before.leaf_sptes - 21);
  EXPECT_EQ(Now().pages_zapped, before.pages_zapped + 4) << "one a level";
  const uint64_t faults = other.counts().faults;
  EXPECT_TRUE(other.Touch(kStays, Read()).hit());
  EXPECT_EQ(other.counts().faults, faults);
}

// With paging off all pages are direct. Their gfns are rounded down: those of
// the slot's first 2 MiB and first GiB begin before the slot, and its first
// page table maps a neighbour, too.
TEST_F(Targeted, TakesDirectPagesThatMapNothingElse) {
  const Gfn chunk = AlignDown(kGoingGfns.begin, Level::k2M);
  vm_.AddSlot({.id = SlotId{2}, .base = chunk, .pages = 16});
  GuestVcpu& off = vm_.AddVcpu();  // paging off
  const auto at = [](Gfn gfn) { return Gva(ToGpa(gfn).value()); };
  for (uint64_t i = 0; i < kGoingGfns.pages; i += 100) {
    ASSERT_TRUE(off.Touch(at(kGoingGfns.begin + i), Write()).hit());
  }
  ASSERT_TRUE(off.Touch(at(chunk + 3), Write()).hit());
  ASSERT_EQ(DirectPagesAt(chunk), 1u);
  ASSERT_EQ(DirectPagesAt(chunk + 512), 1u);
  ASSERT_EQ(DirectPagesAt(chunk + 1024), 1u);
  Delete();
  EXPECT_EQ(DirectPagesAt(chunk), 1u) << "it maps the neighbour";
  EXPECT_EQ(DirectPagesAt(chunk + 512), 0u);
  EXPECT_EQ(DirectPagesAt(chunk + 1024), 0u);
  EXPECT_EQ(vm_.RmapLength(chunk + 3), 1u);
  vm_.DeleteSlot(kNormal, SlotId{2}, SlotZapPolicy::kTargeted);
  EXPECT_EQ(DirectPagesAt(chunk), 0u) << "it began where no slot was left";
}

// A guest page of 1 GiB is split by a page directory and page tables.
TEST_F(Targeted, TakesDirectPageDirectoriesToo) {
  constexpr Gfn kGiga(uint64_t{3} << 18);
  vm_.AddSlot({.id = SlotId{2}, .base = kGiga + 1000, .pages = 64});
  ASSERT_TRUE(
      tables_->Map(Gva(uint64_t{3} << 30), ToGpa(kGiga), Level::k1G, kAll)
          .ok());
  ASSERT_TRUE(cpu_->Touch(Gva(ToGpa(kGiga + 1010).value()), Write()).hit());
  ASSERT_EQ(DirectPagesAt(kGiga), 1u);
  ASSERT_EQ(DirectPagesAt(kGiga + 512), 1u);
  vm_.DeleteSlot(kNormal, SlotId{2}, SlotZapPolicy::kTargeted);
  EXPECT_EQ(DirectPagesAt(kGiga + 512), 0u);
  EXPECT_EQ(DirectPagesAt(kGiga), 0u);
}

// The hash still has, in a line of before, a page that would be taken.
TEST_F(Targeted, FindsNoDirectPageOfBeforeARelease) {
  GuestVcpu& off = vm_.AddVcpu();  // paging off
  const SlotSpec going = *vm_.mmu().FindSlot(kNormal, kGoing);
  ASSERT_TRUE(off.Touch(Gva(ToGpa(kGoingGfns.begin).value()), Write()).hit());
  ASSERT_TRUE(vm_.mmu().InvalidateBegin(going.hvas()).ok());
  ASSERT_TRUE(vm_.mmu().InvalidateEnd(going.hvas()).ok());
  vm_.mmu().InvalidateAll(Strategy::kRelease);
  Delete();
  EXPECT_EQ(Now().pages_zapped, 0u);
}

class Auto : public SlotZap {
 protected:
  SlotZapPolicy Way() { return Now().last_slot_zap.way; }
};

TEST_F(Auto, TakesTheSlotAloneWhereTheOthersHaveMuchToLose) {
  for (uint64_t i = 0; i < 200; ++i) {
    Map(kStays + (i << 21), Gfn(1024) + i);
    cpu_->Touch(kStays + (i << 21), Write());
  }
  // Its own part is more than it would cost to clear all tables.
  constexpr uint64_t kChunks = 12;
  vm_.AddSlot({.id = SlotId{2}, .base = Gfn(0x8000), .pages = kChunks * 512});
  for (uint64_t i = 0; i < kChunks; ++i) {
    Use(kGoes + (i << 12), Gfn(0x8000) + i * 512);
  }
  vm_.DeleteSlot(kNormal, SlotId{2}, SlotZapPolicy::kAuto);
  const SlotZapChoice choice = Now().last_slot_zap;
  EXPECT_EQ(choice.asked, SlotZapPolicy::kAuto);
  EXPECT_EQ(choice.way, SlotZapPolicy::kTargeted);
  EXPECT_LT(choice.estimate.targeted_ns, choice.estimate.release_ns);
  EXPECT_LT(choice.estimate.targeted_ns, choice.estimate.walk_ns);
  EXPECT_TRUE(cpu_->Touch(kGoes, Read()).EndedAs(FaultOutcome::Kind::kEmulate));
}

TEST(AutoDirect, ReleasesWhereTheSlotIsAllThatIsMapped) {
  SmallVm vm(SmallVm::Options{.frames = 65'536, .table_capacity = 512});
  vm.AddSlot({.id = kMain, .base = Gfn(0), .pages = 65'000});
  GuestVcpu& off = vm.AddVcpu();
  for (uint64_t i = 0; i < 65'000; i += 16) {
    ASSERT_TRUE(off.Touch(Gva(i * kPageSize), Write()).hit());
  }
  vm.DeleteSlot(kNormal, kMain, SlotZapPolicy::kAuto);
  const SlotZapChoice choice = vm.mmu().GetStats().last_slot_zap;
  EXPECT_EQ(choice.way, SlotZapPolicy::kRelease);
  EXPECT_LT(choice.estimate.release_ns, choice.estimate.targeted_ns);
  EXPECT_EQ(vm.mmu().GetStats().releases, 1u);
  EXPECT_EQ(vm.Violations(), "");
}

TEST_F(Auto, ASlotThatNobodyHasUsedCostsNothing) {
  UseSome();
  vm_.AddSlot({.id = SlotId{2}, .base = Gfn(0x8000), .pages = 64});
  const Stats before = Now();
  vm_.DeleteSlot(kNormal, SlotId{2}, SlotZapPolicy::kAuto);
  EXPECT_EQ(Way(), SlotZapPolicy::kTargeted);
  EXPECT_EQ(Now().leaf_sptes, before.leaf_sptes);
  EXPECT_EQ(Now().tlb_flushes, before.tlb_flushes);
}

TEST_F(SlotZap, APolicyThatIsNoneIsRefusedAndChangesNothing) {
  UseSome();
  const auto wrong = static_cast<SlotZapPolicy>(9);
  const Stats before = Now();
  for (const absl::Status& refused :
       {vm_.mmu().DeleteSlot(kNormal, kGoing, wrong),
        vm_.mmu().MoveSlot(kNormal, kGoing, Gfn(0x8000), wrong)}) {
    EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(refused.message()), HasSubstr("policy: 9"));
  }
  EXPECT_EQ(Now().leaf_sptes, before.leaf_sptes);
  EXPECT_TRUE(vm_.mmu().FindSlot(kNormal, kGoing).has_value());
}

}  // namespace
}  // namespace shadowmmu::testing
