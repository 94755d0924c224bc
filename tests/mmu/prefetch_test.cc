// What is mapped beside the page that faulted: the neighbours of its entry in
// the guest's page table.

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "src/mmu/guest_format.h"
#include "src/mmu/make_room.h"
#include "src/mmu/vm.h"
#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {
namespace {

using Kind = FaultOutcome::Kind;

constexpr uint64_t kUsed =
    gpte::kWritable | gpte::kUser | gpte::kAccessed | gpte::kDirty;
constexpr Gva kGva{0x4000'0000};  // entry 0 of a page table, in every mode
constexpr Gfn kData{1024};
constexpr GfnRange kTables{Gfn(16), 64};
constexpr uint64_t kWindow = 8;

// A row of pages: page i at kGva + i pages, mapped to gfn kData + i.
class Prefetch : public ::testing::Test {
 protected:
  explicit Prefetch(uint32_t window = kWindow)
      : vm_(SmallVm::Options{.prefetch = window}) {
    vm_.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = 4096});
    cpu_ = &vm_.AddVcpu();
    Use(GuestMode::kFourLevel);
  }
  ~Prefetch() override { EXPECT_EQ(vm_.Violations(), ""); }

  void Use(GuestMode mode) { tables_ = &vm_.UseTables(*cpu_, kTables, mode); }
  static Gva At(uint64_t page) { return kGva + page * kPageSize; }
  void Map(uint64_t page, Gfn gfn, uint64_t bits = kUsed) {
    ASSERT_TRUE(tables_->Map(At(page), ToGpa(gfn), Level::k4K, bits).ok());
  }
  void MapRow(uint64_t pages, uint64_t bits = kUsed) {
    for (uint64_t i = 0; i < pages; ++i) Map(i, kData + i, bits);
  }
  HvaRange HvasOf(Gfn gfn) {
    return {*vm_.memory().HvaOf(AddressSpace::kNormal, ToGpa(gfn)), kPageSize};
  }
  uint64_t Prefetched() { return vm_.mmu().GetStats().sptes_prefetched; }
  // The one leaf that maps `gfn`; nullopt: none.
  std::optional<LeafRecord> Leaf(Gfn gfn) {
    std::optional<LeafRecord> found;
    for (const LeafRecord& leaf : Dump(vm_.mmu()).leaves) {
      if (leaf.gfn != gfn) continue;
      EXPECT_FALSE(found.has_value()) << gfn << " is mapped twice";
      found = leaf;
    }
    return found;
  }
  bool Mapped(uint64_t page) { return Leaf(kData + page).has_value(); }
  bool Writable(Gfn gfn) {
    const std::optional<LeafRecord> leaf = Leaf(gfn);
    EXPECT_TRUE(leaf.has_value()) << gfn << " is not mapped";
    return leaf.has_value() && leaf->writable;
  }
  void Touch(uint64_t page, const Access& access = Read()) {
    ASSERT_TRUE(cpu_->Touch(At(page), access).hit()) << page;
  }
  // The access goes through, in so many faults, at the frame of `gfn`.
  void ExpectHit(Gva gva, const Access& access, Gfn gfn, uint32_t faults) {
    const TouchResult touched = cpu_->Touch(gva, access);
    ASSERT_TRUE(touched.hit()) << gva << ": " << touched;
    EXPECT_EQ(touched.hpa, ToHpa(vm_.PfnOf(gfn))) << gva;
    EXPECT_EQ(touched.faults, faults) << gva;
  }

  SmallVm vm_;
  GuestVcpu* cpu_ = nullptr;
  GuestTableBuilder* tables_ = nullptr;
};

TEST_F(Prefetch, TheNeighboursOfAFaultTakeNoFaultOfTheirOwn) {
  MapRow(kWindow);
  ExpectHit(At(3), Read(), kData + 3, 1);
  EXPECT_EQ(Prefetched(), kWindow - 1);
  for (uint64_t i = 0; i < kWindow; ++i) {
    ExpectHit(At(i), Write(), kData + i, 0);
  }
}

TEST_F(Prefetch, TheWindowIsAligned) {
  MapRow(3 * kWindow);
  Touch(kWindow);
  EXPECT_FALSE(Mapped(kWindow - 1));
  EXPECT_TRUE(Mapped(2 * kWindow - 1));
  EXPECT_FALSE(Mapped(2 * kWindow));
  Touch(kWindow - 1);
  EXPECT_TRUE(Mapped(0));
  EXPECT_EQ(Prefetched(), 2 * (kWindow - 1));
}

TEST_F(Prefetch, TheWindowEndsWithTheTable) {
  for (uint64_t i = 500; i < 516; ++i) Map(i, kData + i);
  Touch(511);
  EXPECT_FALSE(Mapped(503));
  EXPECT_TRUE(Mapped(504));
  EXPECT_FALSE(Mapped(512)) << "the first of the next table";
}

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

TEST_F(Prefetch, WhatIsMappedAlreadyIsLeftAlone) {
  MapRow(kWindow);
  Map(1, kData + 1, kUsed & ~(gpte::kAccessed | gpte::kDirty));
  Touch(0, Write());
  ASSERT_TRUE(Leaf(kData)->dirty);
  EXPECT_EQ(Prefetched(), kWindow - 2);
  Touch(1);
  EXPECT_EQ(Prefetched(), kWindow - 2);
  EXPECT_TRUE(Leaf(kData)->dirty);
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

TEST_F(Prefetch, NoChunkIsMadeForWhatMayNeverBeUsed) {
  MapRow(kWindow);
  Map(6, Gfn(2048));
  const uint64_t chunks = [&] {
    Touch(0);
    return vm_.mmu().GetStats().rmap_chunks;
  }();
  EXPECT_FALSE(Leaf(Gfn(2048)).has_value());
  Touch(6);
  EXPECT_EQ(vm_.mmu().GetStats().rmap_chunks, chunks + 1);
}

TEST_F(Prefetch, AnEditOfThePageTableReachesWhatWasPrefetched) {
  MapRow(kWindow);
  Touch(0);
  ASSERT_TRUE(Mapped(3));
  tables_->SetStore(&vm_.tracked());
  Map(3, kData + 100);
  cpu_->mmu().Invlpg(At(3));
  ExpectHit(At(3), Read(), kData + 100, 1);
  EXPECT_FALSE(Mapped(3));
}

// The guest writes its table with no trap, and flushes.
TEST_F(Prefetch, InvlpgOfAnUnsyncTableDropsWhatWasPrefetched) {
  MapRow(kWindow);
  const Gpa entry = *tables_->EntryAddress(At(3), Level::k4K);
  Map(7, ToGfn(entry));
  Map(kWindow, kData + kWindow);
  Touch(kWindow);  // so that there is a chunk
  Touch(7, Write());
  ASSERT_EQ(vm_.mmu().GetStats().unsync_pages, 1u);
  ASSERT_TRUE(Mapped(3)) << "from the table as it stands";
  const uint64_t other = ToGpa(kData + 100).value() | gpte::kPresent | kUsed;
  const auto store = [&](Hpa hpa) {
    ASSERT_TRUE(vm_.host().WritePhysical(
        hpa, std::as_bytes(std::span<const uint64_t, 1>(&other, 1))));
  };
  ASSERT_TRUE(cpu_->Touch(At(7) + PageOffset(entry), Write(), store).hit());
  cpu_->mmu().Invlpg(At(3));
  ExpectHit(At(3), Read(), kData + 100, 1);
}

// Entries of 4 bytes: a page table makes two shadow pages of 512.
TEST_F(Prefetch, ThirtyTwoBitTablesAreFilledByQuadrant) {
  Use(GuestMode::kTwoLevel);
  for (uint64_t i = 504; i < 528; ++i) Map(i, kData + i);
  ExpectHit(At(513), Read(), kData + 513, 1);
  EXPECT_EQ(Prefetched(), kWindow - 1);
  EXPECT_FALSE(Mapped(511));
  ExpectHit(At(510), Read(), kData + 510, 1);
  EXPECT_EQ(Prefetched(), 2 * (kWindow - 1));
  EXPECT_FALSE(Mapped(520));
  for (uint64_t i = 504; i < 520; ++i) {
    ExpectHit(At(i), Read(), kData + i, 0);
  }
}

TEST_F(Prefetch, EveryModeOfPagingHasIt) {
  for (const GuestMode mode : {GuestMode::kPae, GuestMode::kFiveLevel}) {
    Use(mode);
    MapRow(kWindow);
    const uint64_t before = Prefetched();
    Touch(0);
    EXPECT_EQ(Prefetched() - before, kWindow - 1);
    for (uint64_t i = 1; i < kWindow; ++i) {
      ExpectHit(At(i), Read(), kData + i, 0);
    }
    vm_.mmu().InvalidateAll();
  }
}

TEST_F(Prefetch, ALargePageHasNoNeighbours) {
  ASSERT_TRUE(tables_->Map(At(0), ToGpa(kData), Level::k2M, kUsed).ok());
  Touch(0);
  PagingRegisters off = cpu_->mmu().registers();
  off.cr0 = cr0::kPe;
  off.efer = 0;
  ASSERT_TRUE(cpu_->mmu().SetRegisters(off).ok());
  ASSERT_TRUE(cpu_->Touch(Gva(ToGpa(kData).value()), Read()).hit());
  EXPECT_EQ(Prefetched(), 0u);
}

// The row, and the same gfns once more in another table, all mapped: each gfn
// that is mapped now takes a descriptor. Of these only what a fault needs for
// itself is left.
class PrefetchShortOfRoom : public Prefetch {
 protected:
  static constexpr uint64_t kAlias = 512;  // pages
  PrefetchShortOfRoom() {
    MapRow(kWindow);
    for (uint64_t i = 0; i < kWindow; ++i) Map(kAlias + i, kData + i);
    Touch(kAlias);
    Vm& vm = vm_.mmu().internals();
    VmLock held(vm);
    EXPECT_TRUE(MakeRoom(vm, held, {.translations = 16, .place_arrays = 64}));
    BlockPool<PteListDesc>& pool = vm.lists.descriptors();
    while (pool.available() > NeedsOfFault(kMaxLevels - 1).descriptors) {
      taken_.push_back(pool.Take());
    }
  }
  ~PrefetchShortOfRoom() override {
    Vm& vm = vm_.mmu().internals();
    const VmLock held(vm);
    for (const uint32_t index : taken_) vm.lists.descriptors().Put(index);
  }

  std::vector<uint32_t> taken_;
};

TEST_F(PrefetchShortOfRoom, RoomIsMadeForTheNeighboursToo) {
  const uint64_t before = Prefetched();
  Touch(0);
  EXPECT_EQ(Prefetched() - before, kWindow - 1);
}

TEST_F(PrefetchShortOfRoom, WithoutMemoryTheFaultGoesOnByItself) {
  const uint64_t before = Prefetched();
  vm_.host().FailAllAllocations();
  Touch(0);
  vm_.host().AllowAllocations();
  EXPECT_EQ(Prefetched(), before);
  Touch(1);
  EXPECT_EQ(Prefetched() - before, kWindow - 2);
}

class NoPrefetch : public Prefetch {
 protected:
  NoPrefetch() : Prefetch(0) {}
};

TEST_F(NoPrefetch, EachPageHasItsOwnFault) {
  MapRow(kWindow);
  for (uint64_t i = 0; i < kWindow; ++i) {
    ExpectHit(At(i), Read(), kData + i, 1);
  }
  EXPECT_EQ(Prefetched(), 0u);
}

class WidestPrefetch : public Prefetch {
 protected:
  WidestPrefetch() : Prefetch(kMaxPrefetch) {}
};

TEST_F(WidestPrefetch, AFaultMapsTheWholeWindow) {
  MapRow(2 * kMaxPrefetch);
  Touch(kMaxPrefetch + 5);
  EXPECT_EQ(Prefetched(), kMaxPrefetch - 1);
  EXPECT_FALSE(Mapped(kMaxPrefetch - 1));
}

}  // namespace
}  // namespace shadowmmu::testing
