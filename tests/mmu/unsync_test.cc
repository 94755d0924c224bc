// Which guest tables their guest may write with no exit, and what becomes of
// their shadow pages when something else happens to them.

#include <gtest/gtest.h>

#include "src/mmu/vm.h"
#include "tests/mmu/unsync_fixture.h"

namespace shadowmmu::testing {
namespace {

class Unsync : public UnsyncVm {
 protected:
  using UnsyncVm::UnsyncVm;
};

TEST_F(Unsync, AWriteToAPageTableTakesOneFaultAndNoEmulation) {
  MapAndUse(kGva, kData, Write());
  const TouchResult stored = StoreBy(*cpu_, EntryAt(kGva), EntryFor(kData + 1));
  ASSERT_TRUE(stored.hit()) << stored;
  EXPECT_EQ(stored.faults, 1u);
  EXPECT_EQ(vm_.mmu().GetStats().emulations, 0u);
  ExpectCounts(1, 1, 0);
}

TEST_F(Unsync, FurtherStoresNeedNoExit) {
  MapAndUse(kGva, kData);
  Edit(kGva, kData + 1);
  for (uint64_t i = 0; i < 20; ++i) {
    const TouchResult stored =
        StoreBy(*cpu_, EntryAt(kGva), EntryFor(kData + i));
    ASSERT_TRUE(stored.hit()) << stored;
    EXPECT_TRUE(stored.from_tlb);
    EXPECT_EQ(stored.faults, 0u);
  }
  ExpectCounts(1, 1, 0);
}

// A table that was read through the window first: its mapping is there, and
// read-only.
TEST_F(Unsync, AReadOfATrackedTableLeavesItTracked) {
  MapAndUse(kGva, kData);
  ExpectAt(kWindow + EntryAt(kGva).value(), TableOf(kGva));
  ExpectCounts(0, 0, 0);
  Edit(kGva, kData + 1);
  ExpectCounts(1, 1, 0);
}

TEST_F(Unsync, TablesAboveTheLastLevelNeverAre) {
  MapAndUse(kGva, kData);
  for (const Level level : {Level::k2M, Level::k1G, Level::k512G}) {
    const Gpa entry = EntryAt(kGva, level);
    const TouchResult stored =
        StoreBy(*cpu_, entry, tables_->Entry(kGva, level).value());
    ExpectTrapped(stored);
  }
  ExpectCounts(0, 0, 0);
}

// Bug 18 of KVM's: the page table is a page directory, too.
class TwoLevels : public Unsync {
 protected:
  // Far from kGva: reached over kGva's page table as a directory.
  static constexpr Gva kUpper{0xc000'0000};

  TwoLevels() {
    Map(kGva, kData);
    // What kGva maps is a page table to it, whose entries map kData + 1.
    EXPECT_TRUE(tables_->SetTable(kUpper, Level::k1G, TableOf(kGva)).ok());
    for (uint64_t i = 0; i < kEntriesPerTable; ++i) {
      EXPECT_TRUE(vm_.memory().Write64(
          AddressSpace::kNormal, ToGpa(kData) + i * 8, EntryFor(kData + 1)));
    }
  }
  Gva Upper() const {
    return kUpper + IndexAt(kGva, Level::k4K) * BytesPerEntry(Level::k2M);
  }
};

TEST_F(TwoLevels, ATableThatIsShadowedOneLevelUpIsNot) {
  ExpectAt(kGva, kData);
  ExpectAt(Upper(), kData + 1);
  ExpectTrapped(StoreBy(*cpu_, EntryAt(kGva), EntryFor(kData + 2)));
  ExpectCounts(0, 0, 0);
}

TEST_F(TwoLevels, ATableThatIsOnlyADirectoryIsNot) {
  ExpectAt(Upper(), kData + 1);
  ExpectTrapped(StoreBy(*cpu_, EntryAt(kGva), EntryFor(kData + 2)));
  ExpectCounts(0, 0, 0);
}

TEST_F(TwoLevels, ShadowingItOneLevelUpSyncsIt) {
  ExpectAt(kGva, kData);
  Edit(kGva, EntryFor(kData, kUsed & ~gpte::kWritable));
  ExpectCounts(1, 1, 0);
  ExpectAt(Upper(), kData + 1);
  ExpectCounts(0, 1, 1);
  EXPECT_TRUE(
      cpu_->Touch(kGva, Write()).EndedAs(FaultOutcome::Kind::kGuestFault))
      << "what the guest stored counts from then on, flush or not";
  ExpectTrapped(StoreBy(*cpu_, EntryAt(kGva), EntryFor(kData + 2)));
}

class NoUnsync : public Unsync {
 protected:
  NoUnsync() : Unsync({.unsync = false}) {}
};

TEST_F(NoUnsync, EveryStoreIntoAShadowedTableIsEmulated) {
  MapAndUse(kGva, kData);
  ExpectTrapped(StoreBy(*cpu_, EntryAt(kGva), EntryFor(kData + 1)));
  ExpectCounts(0, 0, 0);
}

// ---- Several shadow pages of one table ----

TEST_F(Unsync, AllPagesOfATableBecomeUnsyncAtOnceAndAreSyncedOneByOne) {
  // A second way to the page table, read-only: another shadow page.
  const Gva other = kGva + BytesPerEntry(Level::k2M);
  Map(kGva, kData);
  ASSERT_TRUE(tables_->SetTable(other, Level::k2M, TableOf(kGva)).ok());
  ASSERT_TRUE(
      tables_->SetBits(other, Level::k2M, gpte::kPresent | gpte::kUser).ok());
  ExpectAt(kGva, kData);
  ExpectAt(other, kData);
  Edit(kGva, kData + 1);
  ExpectCounts(2, 2, 0);

  // A third way, as the first: that page is linked again.
  const Gva third = other + BytesPerEntry(Level::k2M);
  ASSERT_TRUE(tables_->SetTable(third, Level::k2M, TableOf(kGva)).ok());
  ExpectAt(third, kData + 1);
  ExpectCounts(1, 2, 1);
  // The table is write-protected again; a write makes unsync what is not.
  const TouchResult stored = StoreBy(*cpu_, EntryAt(kGva), EntryFor(kData + 2));
  ASSERT_TRUE(stored.hit()) << stored;
  EXPECT_EQ(stored.faults, 1u);
  ExpectCounts(2, 3, 1);
  FlushAll();
  for (const Gva gva : {kGva, other, third}) ExpectAt(gva, kData + 2);
  ExpectCounts(0, 3, 3);
}

TEST_F(Unsync, PagesOfBothAddressSpacesAre) {
  AddSmmSlot();
  Map(kGva, kData);
  GuestVcpu& other = AddVcpu();
  ASSERT_TRUE(other.mmu().SetAddressSpace(AddressSpace::kSmm).ok());
  ExpectAt(kGva, kData);
  ExpectAt(other, kGva, kData);
  // Either may write it from then on.
  ASSERT_TRUE(StoreBy(other, EntryAt(kGva), EntryFor(kData + 1)).hit());
  ExpectCounts(2, 2, 0);
  Edit(kGva, kData + 2);
  ExpectCounts(2, 2, 0);
  // One flushes: neither may write now.
  FlushAll();
  ExpectAt(kGva, kData + 2);
  ExpectCounts(1, 2, 1);
  ASSERT_TRUE(other.mmu().EnterGuest().resume());
  EXPECT_EQ(other.cpu().Access(kWindow + EntryAt(kGva).value(), Write()).kind,
            CpuResult::Kind::kPageFault);
  other.mmu().ExitGuest();
  FlushAll(other);
  ExpectAt(other, kGva, kData + 2);
  ExpectCounts(0, 2, 2);
}

// The table of one space is written through the other, which does not use it.
TEST_F(Unsync, AStoreThroughTheOtherAddressSpaceMakesTheTableUnsync) {
  AddSmmSlot();
  GuestVcpu& other = vm_.AddVcpu();
  ASSERT_TRUE(other.mmu().SetAddressSpace(AddressSpace::kSmm).ok());
  MapAndUse(kGva, kData);
  EXPECT_TRUE(other.Touch(Gva(EntryAt(kGva).value()), Write()).hit());
  ExpectCounts(1, 1, 0);
  FlushAll();
  Run(*cpu_);
  ExpectCounts(0, 1, 1);
  EXPECT_TRUE(other.Touch(Gva(EntryAt(kGva).value()), Write()).hit());
  ExpectCounts(1, 2, 1);
}

class Unsync32Bit : public Unsync {
 protected:
  Unsync32Bit() : Unsync({}, GuestMode::kTwoLevel) {}
};

// A page table of 4-byte entries has two shadow pages.
TEST_F(Unsync32Bit, BothHalvesOfATableAre) {
  const Gva upper = kGva + BytesPerEntry(Level::k2M);
  Map(kGva, kData);
  Map(upper, kData + 1);
  ASSERT_EQ(TableOf(kGva), TableOf(upper));
  ExpectAt(kGva, kData);
  ExpectAt(upper, kData + 1);
  // What the one half has now, the other one had.
  Edit(kGva, kData + 1);
  ExpectCounts(2, 2, 0);
  Edit(upper, kData + 3);
  ExpectCounts(2, 2, 0);
  FlushAll();
  ExpectAt(kGva, kData + 1);
  ExpectAt(upper, kData + 3);
  ExpectCounts(0, 2, 2);
}

// ---- Pages that go ----

TEST_F(Unsync, ObsoletePagesOfTheTableAre) {
  MapAndUse(kGva, kData);
  vm_.mmu().BumpGeneration();
  // No current page shadows the table.
  Edit(kGva, kData + 1);
  ExpectCounts(1, 1, 0);
  ExpectAt(kGva, kData + 1);
  // A new page does. The table is write-protected for it.
  Edit(kGva, kData + 2);
  ExpectCounts(2, 2, 0);
  while (vm_.mmu().ReclaimObsolete(100).more) {
  }
  ExpectCounts(1, 2, 0);
  FlushAll();
  ExpectAt(kGva, kData + 2);
  ExpectCounts(0, 2, 1);
}

TEST_F(Unsync, AZapTakesUnsyncPagesToo) {
  MapAndUse(kGva, kData);
  Edit(kGva, kData + 1);
  vm_.mmu().InvalidateAll(Strategy::kZapAll);
  ExpectCounts(0, 1, 0);
  ExpectAt(kGva, kData + 1);
  // It is tracked like any other.
  Edit(kGva, kData + 2);
  ExpectCounts(1, 2, 0);
}

TEST_F(Unsync, ASlotGoesWithUnsyncPagesOfTablesInIt) {
  const SlotSpec slot =
      vm_.AddSlot({.id = SlotId{1}, .base = Gfn(kPages), .pages = 16});
  Map(kGva, kData);  // makes the tables above
  ASSERT_TRUE(tables_->SetTable(kGva, Level::k2M, slot.base).ok());
  Map(kGva, kData);
  const Gva window = kWindow + BytesPerEntry(Level::k1G) / 2;
  Map(window, slot.base);
  ExpectAt(kGva, kData);
  ExpectAt(window, slot.base, Write());
  ExpectCounts(1, 1, 0);
  vm_.DeleteSlot(AddressSpace::kNormal, SlotId{1});
  ExpectCounts(0, 1, 0);
  EXPECT_TRUE(
      cpu_->Touch(kGva, Read()).EndedAs(FaultOutcome::Kind::kMemoryFault));
}

// ---- Stores that the hypervisor emulates ----

TEST_F(Unsync, AnEmulatedStoreIntoAnUnsyncTableCountsAtOnce) {
  MapAndUse(kGva, kData, Write());
  Edit(kGva + kPageSize, kData + 1);
  tables_->SetStore(&vm_.tracked());
  Map(kGva, kData + 2);
  EXPECT_EQ(vm_.RmapLength(kData), 0u);
  ExpectAt(kGva, kData + 2);
  ExpectCounts(1, 1, 0);
}

// ---- Large pages ----

class UnsyncLarge : public Unsync {
 protected:
  UnsyncLarge() : Unsync({.largest = Level::k2M}) {}
};

// An unsync table is tracked again when its guest flushes: a large page there
// would come and go with it.
TEST_F(UnsyncLarge, NoLargePageIsMappedOverAnUnsyncTable) {
  // A page table that has 2 MiB to itself.
  const Gfn alone{2048};
  const Gva large{0xc000'0000};
  Map(kGva, kData);  // makes the tables above
  ASSERT_TRUE(tables_->SetTable(kGva, Level::k2M, alone).ok());
  Map(kGva, kData);
  Map(kWindow + ToGpa(alone).value(), alone);
  ASSERT_TRUE(tables_->Map(large, ToGpa(alone), Level::k2M, kAll).ok());
  ExpectAt(kGva, kData);
  Edit(kGva, kData + 1);
  ExpectCounts(1, 1, 0);
  for (const uint64_t page : {0u, 1u}) {
    const TouchResult touched = cpu_->Touch(large + page * kPageSize, Write());
    ASSERT_TRUE(touched.hit()) << touched;
    EXPECT_EQ(touched.level, Level::k4K);
  }
  ExpectCounts(1, 1, 0);
  // Nothing else forbids it.
  vm_.mmu().InvalidateAll();
  EXPECT_EQ(cpu_->Touch(large, Write()).level, Level::k2M);
}

// ---- The marks that lead to an unsync page ----

// With write flooding a page that nothing links would go (orphans.h).
class UnsyncWithoutFlooding : public UnsyncVm {
 protected:
  UnsyncWithoutFlooding() : UnsyncVm(SmallVm::Options{.write_flooding = 0}) {}
};

TEST_F(UnsyncWithoutFlooding, MarksFollowLinksThatComeAndGo) {
  // One page table under two entries of its directory, and the directory under
  // two of its own.
  const Gva twin = kGva + BytesPerEntry(Level::k2M);
  const Gva far = kGva + BytesPerEntry(Level::k1G);
  Map(kGva, kData);
  ASSERT_TRUE(tables_->SetTable(twin, Level::k2M, TableOf(kGva)).ok());
  ASSERT_TRUE(
      tables_->SetTable(far, Level::k1G, TableOf(kGva, Level::k2M)).ok());
  for (const Gva gva : {kGva, twin, far}) ExpectAt(gva, kData);
  Edit(kGva, kData + 1);
  ExpectCounts(1, 1, 0);

  tables_->SetStore(&vm_.tracked());
  ASSERT_TRUE(tables_->Unmap(far, Level::k1G).ok());
  ExpectCounts(1, 1, 0);
  ASSERT_TRUE(tables_->Unmap(twin, Level::k2M).ok());
  ExpectCounts(1, 1, 0);
  const Gfn table = TableOf(kGva);
  ASSERT_TRUE(tables_->Unmap(kGva, Level::k2M).ok());
  ExpectCounts(1, 1, 0);
  FlushAll();
  Run(*cpu_);
  ExpectCounts(1, 1, 0);  // nothing leads there
  ASSERT_TRUE(tables_->SetTable(twin, Level::k2M, table).ok());
  ExpectAt(twin, kData + 1);
  ExpectCounts(0, 1, 1);
}

}  // namespace
}  // namespace shadowmmu::testing
