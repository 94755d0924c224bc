// Which neighbours of a page that faulted are left out, and with which rights
// the others are mapped: nothing of theirs may be missed that an access of
// their own would have shown.

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <utility>

#include "tests/mmu/prefetch_fixture.h"

namespace shadowmmu::testing {
namespace {

using Kind = FaultOutcome::Kind;

// ---- The guest's entries ----

TEST_F(Prefetch, WhatTheGuestHasNotAccessedStaysUnmapped) {
  MapRow(kWindow);
  Map(5, kData + 5, kUsed & ~gpte::kAccessed);
  Map(6, kData + 6, kUsed & ~(gpte::kAccessed | gpte::kDirty));
  Touch(0);
  EXPECT_FALSE(Mapped(5));
  EXPECT_FALSE(Mapped(6));
  EXPECT_TRUE(Mapped(7));
  EXPECT_EQ(*tables_->Entry(At(5), Level::k4K) & gpte::kAccessed, 0u);
}

// A reserved bit that is none of the address, which would lead to no slot.
TEST_F(Prefetch, WhatIsNotPresentOrMalformedStaysUnmapped) {
  Use(GuestMode::kPae);
  MapRow(kWindow);
  ASSERT_TRUE(tables_->Unmap(At(1), Level::k4K).ok());
  const uint64_t entry = ToGpa(kData + 2).value() | gpte::kPresent | kUsed;
  ASSERT_TRUE(
      tables_->SetEntry(At(2), Level::k4K, entry | uint64_t{1} << 55).ok());
  Touch(0);
  EXPECT_FALSE(Mapped(2));
  EXPECT_EQ(Prefetched(), kWindow - 3);
  const TouchResult touched = cpu_->Touch(At(2), Read());
  ASSERT_TRUE(touched.EndedAs(Kind::kGuestFault)) << touched;
  EXPECT_EQ(touched.outcome.guest_fault.error_code,
            pf_error::kPresent | pf_error::kReserved);
}

TEST_F(Prefetch, TheFirstWriteStillSetsTheDirtyBit) {
  MapRow(kWindow);
  Map(4, kData + 4, kUsed & ~gpte::kDirty);
  Touch(0);
  EXPECT_FALSE(Writable(kData + 4));
  EXPECT_TRUE(Writable(kData + 5));
  ExpectHit(At(4), Write(), kData + 4, 1);
  EXPECT_NE(*tables_->Entry(At(4), Level::k4K) & gpte::kDirty, 0u);
}

TEST_F(Prefetch, TheHostHearsWhatMayBeWritten) {
  MapRow(kWindow);
  Map(4, kData + 4, kUsed & ~gpte::kDirty);
  vm_.host().ClearMarks();
  Touch(0);
  for (const uint64_t page : {4, 5}) {
    EXPECT_TRUE(vm_.host().IsMarkedYoung(HvasOf(kData + page).begin));
    EXPECT_EQ(vm_.host().IsMarkedDirty(HvasOf(kData + page).begin), page == 5);
  }
}

TEST_F(Prefetch, RightsAreThoseOfTheWholeWalk) {
  MapRow(kWindow);
  Map(3, kData + 3, kUsed & ~gpte::kWritable);
  Touch(0);
  EXPECT_FALSE(Writable(kData + 3));
  EXPECT_TRUE(Writable(kData + 4));

  ASSERT_TRUE(tables_
                  ->SetBits(At(0), Level::k2M,
                            gpte::kPresent | gpte::kUser | gpte::kNoExecute)
                  .ok());
  vm_.mmu().InvalidateAll();  // the host wrote a table: start afresh
  Touch(0);
  const std::optional<LeafRecord> leaf = Leaf(kData + 4);
  ASSERT_TRUE(leaf.has_value());
  EXPECT_TRUE(leaf->user);
  EXPECT_FALSE(leaf->writable);
  EXPECT_FALSE(leaf->executable);
}

TEST_F(Prefetch, NoFixUpIsMadeBesideTheOneThatFaulted) {
  MapRow(kWindow, kUsed & ~gpte::kWritable);
  PagingRegisters registers = cpu_->mmu().registers();
  registers.cr0 &= ~cr0::kWp;
  ASSERT_TRUE(cpu_->mmu().SetRegisters(registers).ok());
  Touch(0, Write(Privilege::kSupervisor));
  EXPECT_TRUE(Writable(kData));
  const std::optional<LeafRecord> leaf = Leaf(kData + 1);
  ASSERT_TRUE(leaf.has_value());
  EXPECT_FALSE(leaf->writable);
  EXPECT_TRUE(leaf->user);
}

// ---- Slots, tracked tables and the host ----

// Slots and host pages that the guest must not write unseen.
TEST_F(Prefetch, NothingIsWritableWhoseFirstWriteMustShow) {
  vm_.AddSlot({.id = SlotId{1},
               .base = Gfn(0x8000),
               .pages = 8,
               .flags = SlotFlags::kReadOnly});
  vm_.AddSlot({.id = SlotId{2},
               .base = Gfn(0x9000),
               .pages = 8,
               .flags = SlotFlags::kLogDirty});
  // So that there are chunks.
  Map(64, Gfn(0x8000));
  Map(72, Gfn(0x9000));
  Touch(64);
  Touch(72);

  MapRow(kWindow);
  Map(2, Gfn(0x8001));
  Map(3, Gfn(0x9001));
  vm_.host().Protect(HvasOf(kData + 4).begin, Protection::kReadOnly);
  Touch(0);
  EXPECT_FALSE(Writable(Gfn(0x8001)));
  EXPECT_FALSE(Writable(Gfn(0x9001)));
  EXPECT_FALSE(Writable(kData + 4));
  EXPECT_TRUE(Writable(kData + 5));
}

TEST_F(Prefetch, ATrackedTableIsMappedForReadingAndStaysInStep) {
  MapRow(kWindow);
  const Gfn table = ToGfn(*tables_->EntryAddress(At(0), Level::k4K));
  Map(2, table);
  Map(3, kTables.begin);
  Touch(0);
  EXPECT_FALSE(Writable(table));
  EXPECT_FALSE(Writable(kTables.begin));
  EXPECT_EQ(vm_.mmu().GetStats().unsyncs, 0u);
  EXPECT_TRUE(cpu_->Touch(At(3), Write()).EndedAs(Kind::kEmulate));
}

TEST_F(Prefetch, AgingHearsOfNothingThatWasNotUsed) {
  MapRow(kWindow);
  Touch(0);
  EXPECT_TRUE(vm_.mmu().TestAge(HvasOf(kData)));
  EXPECT_FALSE(vm_.mmu().TestAge(HvasOf(kData + 1)));
  Touch(1);
  EXPECT_TRUE(vm_.mmu().TestAge(HvasOf(kData + 1)));
}

TEST_F(Prefetch, WhatTheHostIsChangingOrHasNotIsLeftOut) {
  MapRow(kWindow);
  ASSERT_TRUE(vm_.mmu().InvalidateBegin(HvasOf(kData + 2)).ok());
  const HvaRange gone = HvasOf(kData + 3);
  ASSERT_TRUE(vm_.mmu().InvalidateBegin(gone).ok());
  vm_.host().Unmap(gone.begin);
  ASSERT_TRUE(vm_.mmu().InvalidateEnd(gone).ok());
  Map(4, Gfn(0x10'0000));  // no slot
  Touch(0);
  EXPECT_EQ(Prefetched(), kWindow - 4);
  EXPECT_FALSE(Mapped(2));
  EXPECT_FALSE(Mapped(3));
  EXPECT_TRUE(Mapped(5));
  EXPECT_TRUE(cpu_->Touch(At(3), Read()).EndedAs(Kind::kMemoryFault));
  EXPECT_TRUE(cpu_->Touch(At(4), Read()).EndedAs(Kind::kEmulate));
  ASSERT_TRUE(vm_.mmu().InvalidateEnd(HvasOf(kData + 2)).ok());
  ExpectHit(At(2), Read(), kData + 2, 1);
}

TEST_F(Prefetch, WhatTheHostChangedInTheMiddleOfTheFaultIsMappedAsItIsNow) {
  MapRow(kWindow);
  const HvaRange moved = HvasOf(kData + 2);
  bool moved_it = false;
  vm_.host().SetResolveHook([&](Hva, AccessType) {
    if (std::exchange(moved_it, true)) return;
    ASSERT_TRUE(vm_.mmu().InvalidateBegin(moved).ok());
    vm_.host().Retarget(moved.begin, Frame{8000});
    ASSERT_TRUE(vm_.mmu().InvalidateEnd(moved).ok());
  });
  Touch(0);
  vm_.host().SetResolveHook(nullptr);
  ASSERT_TRUE(Mapped(2));
  EXPECT_EQ(Leaf(kData + 2)->pfn, ToPfn(Frame{8000}));
}

}  // namespace
}  // namespace shadowmmu::testing
