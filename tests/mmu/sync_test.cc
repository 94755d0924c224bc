// When an unsync page is brought in step with its guest table, and what is left
// of it then.

#include <gtest/gtest.h>

#include <ostream>
#include <string>

#include "tests/mmu/unsync_fixture.h"

namespace shadowmmu::testing {
namespace {

class Sync : public UnsyncVm {
 protected:
  using UnsyncVm::UnsyncVm;
};

// ---- When ----

TEST_F(Sync, InvlpgMakesTheNextAccessReadTheNewEntry) {
  MapAndUse(kGva, kData);
  MapAndUse(kGva + kPageSize, kData + 8);
  Edit(kGva, kData + 1);
  // No flush yet: what the CPU has cached may be used.
  EXPECT_TRUE(cpu_->Touch(kGva, Read()).from_tlb);
  cpu_->mmu().Invlpg(kGva);
  ExpectAt(kGva, kData + 1);
  EXPECT_EQ(vm_.RmapLength(kData), 0u);
  EXPECT_EQ(vm_.RmapLength(kData + 8), 1u) << "of another address";
  // The guest has the table still.
  EXPECT_EQ(StoreBy(*cpu_, EntryAt(kGva), EntryFor(kData)).faults, 0u);
  ExpectCounts(1, 1, 0);
}

TEST_F(Sync, ALoadOfCr3BringsWhatItsRootLeadsToInStep) {
  MapAndUse(kGva, kData);
  MapAndUse(kGva + kPageSize, kData + 8);
  Edit(kGva, kData + 1);
  FlushAll();
  ExpectCounts(1, 1, 0);  // not before it enters
  Run(*cpu_);
  ExpectCounts(0, 1, 1);
  EXPECT_EQ(vm_.RmapLength(kData), 0u);
  EXPECT_EQ(vm_.RmapLength(kData + 8), 1u) << "that one has not changed";
  ExpectAt(kGva, kData + 1);
  const TouchResult stored = StoreBy(*cpu_, EntryAt(kGva), EntryFor(kData));
  ASSERT_TRUE(stored.hit());
  EXPECT_EQ(stored.faults, 1u) << "the table is tracked again";
}

TEST_F(Sync, EveryWriteOfARegisterThatFlushesDoes) {
  MapAndUse(kGva, kData);
  Edit(kGva, kData + 1);
  ASSERT_TRUE(cpu_->mmu().SetRegisters(cpu_->mmu().registers()).ok());
  ExpectAt(kGva, kData + 1);
  Edit(kGva, kData + 2);
  ASSERT_TRUE(cpu_->mmu().SetFeatures(cpu_->mmu().features()).ok());
  ExpectAt(kGva, kData + 2);
  ExpectCounts(0, 2, 2);
}

TEST_F(Sync, APageIsSyncedForAllVcpusAtOnce) {
  GuestVcpu& other = AddVcpu();
  MapAndUse(kGva, kData);
  ExpectAt(other, kGva, kData);
  Edit(kGva, kData + 1);
  FlushAll(other);
  ExpectAt(other, kGva, kData + 1);
  ExpectAt(kGva, kData + 1);
  ExpectCounts(0, 1, 1);
}

TEST_F(Sync, MoreUnsyncPagesThanABatchHasAreAllSynced) {
  constexpr uint64_t kMany = 37;
  const auto at = [](uint64_t i) {
    return kGva + 13 * i * BytesPerEntry(Level::k2M);
  };
  for (uint64_t i = 0; i < kMany; ++i) {
    MapAndUse(at(i), kData + i);
  }
  for (uint64_t i = 0; i < kMany; ++i) Edit(at(i), kData + 100 + i);
  ExpectCounts(kMany, kMany, 0);
  FlushAll();
  Run(*cpu_);
  ExpectCounts(0, kMany, kMany);
  for (uint64_t i = 0; i < kMany; ++i) ExpectAt(at(i), kData + 100 + i);
}

TEST_F(Sync, ComingBackToAnAddressSpaceSyncs) {
  AddSmmSlot();
  MapAndUse(kGva, kData);
  Edit(kGva, kData + 1);
  ASSERT_TRUE(cpu_->mmu().SetAddressSpace(AddressSpace::kSmm).ok());
  Run(*cpu_);
  ExpectCounts(1, 1, 0);
  ASSERT_TRUE(cpu_->mmu().SetAddressSpace(AddressSpace::kNormal).ok());
  ExpectAt(kGva, kData + 1);
  ExpectCounts(0, 1, 1);
}

class SyncPae : public Sync {
 protected:
  SyncPae() : Sync({}, GuestMode::kPae) {}
};

TEST_F(SyncPae, EachOfTheFourDirectoriesIsLookedAt) {
  const Gva high{0xc000'5000};
  MapAndUse(kGva, kData);
  MapAndUse(high, kData + 8);
  Edit(high, kData + 1);
  FlushAll();
  ExpectAt(high, kData + 1);
  Edit(kGva, kData + 2);
  FlushAll();
  ExpectAt(kGva, kData + 2);
  ExpectCounts(0, 2, 2);
}

// ---- Bug 15 of KVM's: pages that are linked again ----

TEST_F(Sync, AnUnsyncPageIsSyncedWhenItIsLinkedAgain) {
  const Gva twin = kGva + BytesPerEntry(Level::k2M);
  Map(kGva, kData);
  ASSERT_TRUE(tables_->SetTable(twin, Level::k2M, TableOf(kGva)).ok());
  ExpectAt(kGva, kData);
  Edit(kGva, kData + 1);
  ExpectAt(twin, kData + 1);  // nobody flushed, and nobody had to
  ExpectCounts(0, 1, 1);
}

TEST_F(Sync, WhatALinkedPageLeadsToIsSynced) {
  const Gva far = kGva + BytesPerEntry(Level::k1G);
  const Gva farther = kGva + BytesPerEntry(Level::k512G);
  Map(kGva, kData);
  const Gfn directory = TableOf(kGva, Level::k2M);
  ASSERT_TRUE(tables_->SetTable(far, Level::k1G, directory).ok());
  ASSERT_TRUE(
      tables_->SetTable(farther, Level::k512G, TableOf(kGva, Level::k1G)).ok());
  ExpectAt(kGva, kData);
  Edit(kGva, kData + 1);
  ExpectAt(far, kData + 1);
  ExpectCounts(0, 1, 1);
  Edit(kGva, kData + 2);
  ExpectAt(farther, kData + 2);
  ExpectCounts(0, 2, 2);
}

// ---- What happens on the way ----

TEST_F(Sync, TheTableCannotBeWrittenFromBeforeItIsReadOn) {
  GuestVcpu& other = AddVcpu();
  MapAndUse(kGva, kData);
  ASSERT_TRUE(StoreBy(other, EntryAt(kGva), EntryFor(kData + 1)).hit());
  const Gva window = kWindow + EntryAt(kGva).value();
  // The other vCPU is in the guest, and has the window cached.
  ASSERT_TRUE(other.mmu().EnterGuest().resume());
  ASSERT_TRUE(other.cpu().Access(window, Write()).hit());
  int reads = 0;
  vm_.host().SetReadHook([&](Hva) {
    ++reads;
    EXPECT_TRUE(other.cpu().TlbEntries().empty());
    EXPECT_FALSE(other.cpu().Grants(window, Write()));
  });
  FlushAll();
  Run(*cpu_);
  vm_.host().SetReadHook(nullptr);
  EXPECT_EQ(reads, 1);
  other.mmu().ExitGuest();
  ExpectCounts(0, 1, 1);
}

// A vCPU that flushes while another one's sync is under way must not find the
// page in step already, and go on with what is about to be dropped.
TEST_F(Sync, APageIsMarkedUntilItsOldEntriesAreGone) {
  GuestVcpu& other = AddVcpu();
  MapAndUse(kGva, kData);
  ExpectAt(other, kGva, kData);
  Edit(kGva, kData + 1);
  int reads = 0;
  vm_.host().SetReadHook([&](Hva) {
    ++reads;
    FlushAll(other);
    EXPECT_TRUE(AskedToSync(1));
  });
  FlushAll();
  Run(*cpu_);
  vm_.host().SetReadHook(nullptr);
  EXPECT_EQ(reads, 1);
  ExpectAt(other, kGva, kData + 1);
  ExpectCounts(0, 1, 1);
}

// The host takes the table's memory away: nothing can be read, so nothing is
// justified.
TEST_F(Sync, ATableThatCannotBeReadLosesAllItsEntries) {
  MapAndUse(kGva, kData);
  MapAndUse(kGva + kPageSize, kData + 8);
  Edit(kGva, kData + 1);
  const Hva hva =
      vm_.memory().HvaOf(AddressSpace::kNormal, EntryAt(kGva)).value();
  const HvaRange page{Hva(hva.value() & ~kPageOffsetMask), kPageSize};
  ASSERT_TRUE(vm_.mmu().InvalidateBegin(page).ok());
  FlushAll();
  Run(*cpu_);
  ExpectCounts(0, 1, 1);
  EXPECT_EQ(vm_.RmapLength(kData), 0u);
  EXPECT_EQ(vm_.RmapLength(kData + 8), 0u);
  ASSERT_TRUE(vm_.mmu().InvalidateEnd(page).ok());
  ExpectAt(kGva, kData + 1);
  ExpectAt(kGva + kPageSize, kData + 8);
}

// ---- What it leaves ----

struct Change {
  std::string name;
  uint64_t before;  // bits of the entry; kData is added
  uint64_t turned;  // by the guest's store
  bool kept;        // is the spte, which a write has made where it could
  GuestMode mode = GuestMode::kFourLevel;
};
std::ostream& operator<<(std::ostream& os, const Change& change) {
  return os << change.name;
}

class SyncOfAChange : public Sync,
                      public ::testing::WithParamInterface<Change> {
 protected:
  SyncOfAChange() : Sync({}, GetParam().mode) {}
};

TEST_P(SyncOfAChange, DropsTheEntryOnlyIfTheGuestsNoLongerJustifiesIt) {
  const Change& change = GetParam();
  const Gva beside = kGva + kPageSize;
  Map(kGva, kData, change.before);
  Map(beside, kData + 8);
  const bool writable = (change.before & gpte::kWritable) != 0;
  ExpectAt(kGva, kData, writable ? Write() : Read());
  ExpectAt(beside, kData + 8);
  Edit(kGva, Entry(kGva) ^ change.turned);
  FlushAll();
  Run(*cpu_);
  ExpectCounts(0, 1, 1);
  EXPECT_EQ(vm_.RmapLength(kData), change.kept ? 1u : 0u);
  EXPECT_EQ(vm_.RmapLength(kData + 8), 1u);
  // A kept entry answers with no fault.
  if (change.kept) {
    EXPECT_EQ(cpu_->Touch(kGva, Read()).faults, 0u);
  }
}

constexpr uint64_t kRwu = gpte::kWritable | gpte::kUser;
INSTANTIATE_TEST_SUITE_P(
    Bits, SyncOfAChange,
    ::testing::Values(
        Change{"NotPresent", kRwu, gpte::kPresent, false},
        Change{"NotAccessed", kRwu, gpte::kAccessed, false},
        Change{"NotDirty", kRwu, gpte::kDirty, false},
        Change{"NotDirtyAndNeverWritable", gpte::kUser, gpte::kDirty, true},
        Change{"AnotherFrame", kRwu, 0x1000, false},
        Change{"ReadOnly", kRwu, gpte::kWritable, false},
        Change{"Writable", gpte::kUser, gpte::kWritable, true},
        Change{"Supervisor", kRwu, gpte::kUser, false},
        // Less to user code, and more to SMEP and SMAP.
        Change{"User", gpte::kWritable, gpte::kUser, false},
        Change{"NoExecute", kRwu, gpte::kNoExecute, false},
        Change{"Execute", kRwu | gpte::kNoExecute, gpte::kNoExecute, true},
        Change{"AnotherKey", kRwu, uint64_t{1} << 59, false},
        Change{"IgnoredBits", kRwu, uint64_t{7} << 9 | uint64_t{1} << 58, true},
        Change{"ReservedByPae", kRwu, uint64_t{1} << 52, false,
               GuestMode::kPae},
        Change{"NotPresentIn4Bytes", kRwu, gpte::kPresent, false,
               GuestMode::kTwoLevel},
        Change{"IgnoredIn4Bytes", kRwu, uint64_t{7} << 9, true,
               GuestMode::kTwoLevel}),
    [](const ::testing::TestParamInfo<Change>& change) {
      return change.param.name;
    });

TEST_F(Sync, RightsThatUpperEntriesTookAwayAreNotMissed) {
  Map(kGva, kData);
  Map(kGva + kPageSize, kData + 8);
  ASSERT_TRUE(
      tables_->SetBits(kGva, Level::k2M, gpte::kPresent | gpte::kAccessed)
          .ok());
  ExpectAt(kGva, kData);
  ExpectAt(kGva + kPageSize, kData + 8);
  Edit(kGva, kData + 1);
  FlushAll();
  Run(*cpu_);
  EXPECT_EQ(vm_.RmapLength(kData), 0u);
  EXPECT_EQ(vm_.RmapLength(kData + 8), 1u);
}

// A kernel clears A and D to learn who uses what.
TEST_F(Sync, BitsThatTheGuestClearedAreSetAgainByTheNextAccess) {
  MapAndUse(kGva, kData, Write());
  Edit(kGva, EntryFor(kData, kUsed & ~(gpte::kAccessed | gpte::kDirty)));
  FlushAll();
  ExpectAt(kGva, kData);
  EXPECT_EQ(Entry(kGva), EntryFor(kData, kUsed & ~gpte::kDirty));
  ExpectAt(kGva, kData, Write());
  EXPECT_EQ(Entry(kGva), EntryFor(kData));
  Edit(kGva, EntryFor(kData, kUsed & ~gpte::kDirty));
  cpu_->mmu().Invlpg(kGva);
  ExpectAt(kGva, kData, Write());
  EXPECT_EQ(Entry(kGva), EntryFor(kData));
}

TEST_F(Sync, RightsThatTheGuestTookAwayAreGoneFromEveryCpu) {
  GuestVcpu& other = AddVcpu();
  MapAndUse(kGva, kData, Write());
  ExpectAt(other, kGva, kData, Write());
  ASSERT_TRUE(other.mmu().EnterGuest().resume());
  ASSERT_TRUE(other.cpu().Access(kGva, Write()).hit());
  Edit(kGva, EntryFor(kData, kUsed & ~gpte::kWritable));
  FlushAll();
  Run(*cpu_);
  EXPECT_EQ(other.cpu().Access(kGva, Write()).kind,
            CpuResult::Kind::kPageFault);
  other.mmu().ExitGuest();
}

}  // namespace
}  // namespace shadowmmu::testing
