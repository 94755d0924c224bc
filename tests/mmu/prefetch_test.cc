// What is mapped beside the page that faulted: how far the neighbours of its
// entry in the guest's page table reach, and what becomes of them.

#include <gtest/gtest.h>

#include <cstdint>
#include <span>
#include <vector>

#include "src/mmu/guest_format.h"
#include "src/mmu/make_room.h"
#include "src/mmu/vcpu_state.h"
#include "src/mmu/vm.h"
#include "tests/mmu/prefetch_fixture.h"

namespace shadowmmu::testing {
namespace {

// ---- The window ----

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

// ---- Edits ----

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

// ---- Room ----

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
    // The vCPU's reserve goes back, but for the places.
    ListReserve& reserve = vm.vcpus[0]->writer.reserve;
    vm.lists.EmptyReserve(reserve);
    EXPECT_TRUE(MakeRoom(vm, held, reserve,
                         {.translations = 16, .lists = {.place_arrays = 64}}));
    BlockPool<PteListDesc>& pool = vm.lists.descriptors();
    while (pool.available() > NeedsOfFault(kMaxLevels - 1).lists.descriptors) {
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

}  // namespace
}  // namespace shadowmmu::testing
