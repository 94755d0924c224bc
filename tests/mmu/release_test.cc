// A release: nothing is walked, nothing of before is ever used again, and
// everything that describes shadow pages starts anew.

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "src/mmu/vcpu_state.h"
#include "tests/mmu/unsync_fixture.h"

namespace shadowmmu::testing {
namespace {

constexpr AddressSpace kNormal = AddressSpace::kNormal;

class Releases : public UnsyncVm {
 protected:
  static Gva At(uint64_t page) { return kGva + page * kPageSize; }
  static Gva Far(uint64_t i) { return Gva(0x10'0000'0000 + (i << 21)); }

  Vm& inside() { return vm_.mmu().internals(); }
  Stats Now() { return vm_.mmu().GetStats(); }
  void Release() { vm_.mmu().InvalidateAll(Strategy::kRelease); }
  uint64_t Epoch() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    return inside().generations.arena_epoch;
  }
  // A kicked vCPU leaves the guest at once, on this thread, after `before`.
  template <typename Before>
  void OnKick(GuestVcpu& cpu, Before before) {
    vm_.host().SetKickHook([this, &cpu, before](const VcpuSet&) {
      before();
      cpu.mmu().ExitGuest();
      vm_.host().SetKickHook(nullptr);
    });
  }
  void MapPages(uint64_t pages) {
    for (uint64_t i = 0; i < pages; ++i) Map(At(i), kData + i, kUsed);
  }
  void UsePages(GuestVcpu& cpu, uint64_t pages) {
    for (uint64_t i = 0; i < pages; ++i) {
      ASSERT_TRUE(cpu.Touch(At(i), Write()).hit()) << i;
    }
  }
  // In page tables of their own.
  void MapFar(uint64_t tables) {
    for (uint64_t i = 0; i < tables; ++i) Map(Far(i), kData + i, kUsed);
  }
  void UseFar(uint64_t tables) {
    for (uint64_t i = 0; i < tables; ++i) {
      ASSERT_TRUE(cpu_->Touch(Far(i), Write()).hit()) << i;
    }
    EXPECT_EQ(vm_.Violations(tables), "");
  }
};

TEST_F(Releases, LeaveNothingAndEverythingWorksAfter) {
  GuestVcpu& other = AddVcpu();
  MapPages(40);
  UsePages(*cpu_, 40);
  const Stats before = Now();
  ASSERT_GE(before.leaf_sptes, 40u);
  Release();
  const Stats after = Now();
  EXPECT_EQ(after.leaf_sptes, 0u);
  EXPECT_EQ(after.shadow_pages, 0u) << "roots that vCPUs hold included";
  EXPECT_EQ(after.obsolete_pages, 0u);
  EXPECT_EQ(after.pte_list_descs, 0u);
  EXPECT_EQ(after.unsync_pages, 0u);
  EXPECT_EQ(after.table_bytes, 0u);
  EXPECT_EQ(after.pages_zapped, before.pages_zapped) << "nothing is walked";
  EXPECT_EQ(after.sptes_zapped, before.sptes_zapped);
  EXPECT_EQ(after.pages_released, before.shadow_pages);
  EXPECT_EQ(after.releases, 1u);
  EXPECT_EQ(vm_.RmapLength(kData), 0u);
  EXPECT_EQ(vm_.Violations(), "");
  UsePages(*cpu_, 40);
  UsePages(other, 40);
  EXPECT_EQ(Now().leaf_sptes, 40u) << "the two share their pages";
  EXPECT_EQ(vm_.Violations(40), "");
}

TEST_F(Releases, RaiseBothCounters) {
  const uint64_t generation = vm_.mmu().generation();
  const uint64_t epoch = Epoch();
  Release();
  EXPECT_EQ(vm_.mmu().generation(), generation + 1);
  EXPECT_EQ(Epoch(), epoch + 1);
  vm_.mmu().BumpGeneration();
  EXPECT_EQ(Epoch(), epoch + 1) << "a bump is no release";
}

// What a notifier would find while a CPU still writes.
TEST_F(Releases, WhileACpuIsInTheGuestItsSptesAreOnTheirRmaps) {
  MapAndUse(kGva, kData, Write());
  ASSERT_TRUE(cpu_->mmu().EnterGuest().resume());
  bool kicked = false;
  // The release holds the MMU lock, on this thread.
  OnKick(*cpu_, [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    kicked = true;
    const Vm& vm = inside();
    EXPECT_EQ(vm.generations.arena_epoch, 1u);
    EXPECT_NE(vm.pages.active(), 0u);
    const Memslot* slot = vm.slot_table().Find(kNormal, kData);
    EXPECT_EQ(slot->rmaps->leaf_sptes(vm.generations.arena_epoch), 1u);
    EXPECT_TRUE(cpu_->cpu().Access(kGva, Write()).hit());
  });
  Release();
  EXPECT_TRUE(kicked);
  EXPECT_EQ(Epoch(), 2u);
}

TEST_F(Releases, AVcpuThatWasInTheGuestLoadsANewRootAndFlushes) {
  MapAndUse(kGva, kData, Write());
  ASSERT_TRUE(cpu_->mmu().EnterGuest().resume());
  OnKick(*cpu_, [] {});
  Release();
  EXPECT_FALSE(cpu_->cpu().TlbEntries().empty()) << "it has not entered yet";
  ASSERT_TRUE(cpu_->mmu().EnterGuest().resume());
  EXPECT_TRUE(cpu_->cpu().TlbEntries().empty());
  cpu_->mmu().ExitGuest();
  EXPECT_EQ(Now().shadow_pages, 1u) << "its root";
  ExpectAt(kGva, kData, Write());
}

TEST_F(Releases, WhoIsOutsideIsNotKicked) {
  MapAndUse(kGva, kData);
  const uint64_t kicks = vm_.host().kicks();
  Release();
  EXPECT_EQ(vm_.host().kicks(), kicks);
}

// Each leaves more stale tables than the next one uses.
TEST_F(Releases, OneAfterTheOtherFindAllTablesClear) {
  MapFar(24);
  for (const uint64_t tables : {24u, 3u, 1u, 24u}) {
    UseFar(tables);
    Release();
    EXPECT_EQ(vm_.Violations(), "");
  }
  UseFar(24);
}

TEST_F(Releases, TakeTablesThatWereFreeToo) {
  MapFar(12);
  UseFar(12);
  // Frees some, in an order that is not that of their indices.
  for (const uint64_t i : {7u, 2u, 9u}) {
    ASSERT_TRUE(vm_.mmu().StopShadowing(TableOf(Far(i))));
  }
  Release();
  UseFar(12);
}

TEST_F(Releases, ForgetRootsThatWereZappedAndPinned) {
  MapAndUse(kGva, kData);
  vm_.mmu().InvalidateAll(Strategy::kZapAll);
  ASSERT_EQ(Now().shadow_pages, 1u) << "the root, which the vCPU holds";
  Release();
  EXPECT_EQ(Now().shadow_pages, 0u);
  EXPECT_EQ(Now().obsolete_pages, 0u);
  EXPECT_EQ(vm_.Violations(), "");
  ExpectAt(kGva, kData);
}

TEST_F(Releases, ForgetObsoletePages) {
  MapPages(8);
  UsePages(*cpu_, 8);
  vm_.mmu().BumpGeneration();
  UsePages(*cpu_, 4);
  ASSERT_NE(Now().obsolete_pages, 0u);
  Release();
  EXPECT_EQ(Now().obsolete_pages, 0u);
  EXPECT_FALSE(vm_.mmu().ReclaimObsolete(1'000).more);
  EXPECT_EQ(Now().pages_zapped, 0u);
  UsePages(*cpu_, 8);
  EXPECT_EQ(vm_.Violations(8), "");
}

TEST_F(Releases, ForgetUnsyncPagesAndTheirMarks) {
  MapAndUse(kGva, kData);
  Edit(kGva, kData + 1);
  ASSERT_EQ(Now().unsync_pages, 1u);
  Release();
  EXPECT_EQ(Now().unsync_pages, 0u);
  EXPECT_EQ(vm_.Violations(), "");
  // In step with the guest's table, which nobody has flushed.
  ExpectAt(kGva, kData + 1);
  EXPECT_EQ(Now().unsync_pages, 0u);
  Edit(kGva, kData + 2);
  FlushAll();
  ExpectAt(kGva, kData + 2);
}

// Chains come from the pools, which take back what vCPUs had reserved of them.
TEST_F(Releases, TakeBackWhatChainsAndReservesHad) {
  // Several tables of the guest map one page: a chain.
  for (uint64_t i = 0; i < 20; ++i) Map(Far(i), kData, kUsed);
  UseFar(20);
  ASSERT_EQ(vm_.RmapLength(kData), 20u);
  ASSERT_NE(Now().pte_list_descs, 0u);
  for (int i = 0; i < 3; ++i) {
    Release();
    EXPECT_EQ(Now().pte_list_descs, 0u);
    EXPECT_EQ(vm_.Violations(), "");
    UseFar(20);
    EXPECT_EQ(vm_.RmapLength(kData), 20u);
  }
  // As much was in use at the end of each round, so nothing has leaked.
  const uint64_t bytes = Now().metadata_bytes;
  Release();
  UseFar(20);
  EXPECT_EQ(Now().metadata_bytes, bytes);
}

// A page of before, of another shape, where a chain is now.
TEST_F(Releases, PlacesOfBeforeAreNotBelieved) {
  for (uint64_t i = 0; i < 20; ++i) Map(Far(i), kData, kUsed);
  MapPages(20);
  UseFar(20);
  Release();
  UsePages(*cpu_, 20);
  UseFar(20);
  for (uint64_t i = 0; i < 20; ++i) {
    ASSERT_TRUE(vm_.mmu().StopShadowing(TableOf(Far(i)))) << i;
    EXPECT_EQ(vm_.Violations(), "");
  }
}

TEST_F(Releases, APreviousRootOfBeforeIsDropped) {
  MapAndUse(kGva, kData);
  const PagingRegisters first = cpu_->mmu().registers();
  GuestTableBuilder& second = vm_.UseTables(*cpu_, {Gfn(100), 16});
  ASSERT_TRUE(second.Map(kGva, ToGpa(kData + 1), Level::k4K, kUsed).ok());
  ExpectAt(kGva, kData + 1);
  Release();
  // A new page has the index of the previous root, and is held by another.
  GuestVcpu& other = AddVcpu();
  ExpectAt(other, kGva, kData);
  ASSERT_TRUE(cpu_->mmu().SetRegisters(first).ok());
  ExpectAt(kGva, kData);
  vm_.DropVcpus();
  EXPECT_EQ(vm_.Violations(), "");
}

// A vCPU still has a handle with the index of another's page.
TEST_F(Releases, ARootOfBeforeIsNotTakenForOneThatAVcpuWalksFrom) {
  GuestVcpu& other = vm_.AddVcpu();
  vm_.UseTables(other, {Gfn(120), 16});
  Run(other);  // its root is the first page that is made
  Release();
  MapAndUse(kGva, kData);  // and so is this vCPU's, now
  const Gfn root = ToGfn(tables_->root());
  vm_.UseTables(*cpu_, {Gfn(100), 16});
  Run(*cpu_);
  EXPECT_TRUE(vm_.mmu().StopShadowing(root)) << "it is a previous root only";
  EXPECT_EQ(vm_.Violations(), "");
}

TEST_F(Releases, WhatLogsReportsWhatWasWrittenBeforeAndWhatIsAfter) {
  MapPages(4);
  ASSERT_TRUE(
      vm_.mmu().SetSlotFlags(kNormal, SlotId{0}, SlotFlags::kLogDirty).ok());
  std::vector<uint64_t> dirty(DirtyBitmapWords(kPages));
  const auto harvest = [&] {
    ASSERT_TRUE(vm_.mmu().GetAndClearDirty(kNormal, SlotId{0}, dirty).ok());
  };
  const auto written = [&](uint64_t page) {
    const uint64_t bit = (kData - Gfn(0)) + page;
    return (dirty[bit / 64] >> (bit % 64) & 1) != 0;
  };
  ExpectAt(At(0), kData, Write());
  Release();
  harvest();
  EXPECT_TRUE(written(0)) << "before the release";
  EXPECT_FALSE(written(1));
  ExpectAt(At(1), kData + 1, Write());
  Release();
  ExpectAt(At(2), kData + 2, Read());
  harvest();
  EXPECT_FALSE(written(0));
  EXPECT_TRUE(written(1));
  EXPECT_FALSE(written(2));
  ExpectAt(At(1), kData + 1, Write());
  harvest();
  EXPECT_TRUE(written(1)) << "after it was harvested, and nothing mapped it";
}

TEST_F(Releases, InTheMiddleOfAFaultMakeItStartOver) {
  MapPages(2);
  ExpectAt(At(0), kData);
  int calls = 0;
  vm_.host().SetResolveHook([&](Hva, AccessType) {
    if (calls++ == 0) Release();
  });
  const uint64_t retries = Now().fault_retries;
  ExpectAt(At(1), kData + 1, Write());
  vm_.host().SetResolveHook(nullptr);
  EXPECT_GE(calls, 2);
  EXPECT_GT(Now().fault_retries, retries);
  EXPECT_EQ(vm_.Violations(1), "");
}

// Memory for the pools is got with the lock dropped.
TEST_F(Releases, WhileAFaultMakesRoomTakeWhatItHadReserved) {
  MapFar(40);
  bool inside_hook = false;
  uint64_t releases = 0;
  vm_.host().SetAllocateHook([&] {
    if (inside_hook) return;
    inside_hook = true;
    Release();
    ++releases;
    inside_hook = false;
  });
  for (uint64_t i = 0; i < 40; ++i) {
    ASSERT_TRUE(cpu_->Touch(Far(i), Write()).hit()) << i;
    EXPECT_EQ(vm_.Violations(), "") << i;
  }
  vm_.host().SetAllocateHook(nullptr);
  EXPECT_GT(releases, 2u);
}

TEST_F(Releases, ASlotMayGoAfterOneThoughNobodyHasUsedItSince) {
  const SlotSpec spec =
      vm_.AddSlot({.id = SlotId{1}, .base = Gfn(8192), .pages = 64});
  MapAndUse(kGva, spec.base, Write());
  Release();
  vm_.DeleteSlot(kNormal, spec.id);
  EXPECT_EQ(vm_.Violations(), "");
}

TEST_F(Releases, AndThePageLimit) {
  MapFar(30);
  UseFar(30);
  ASSERT_TRUE(vm_.mmu().SetPageLimit(100).ok());
  Release();
  EXPECT_EQ(Now().page_limit, 100u);
  ASSERT_TRUE(vm_.mmu().SetPageLimit(80).ok());
  UseFar(30);
  EXPECT_LE(Now().shadow_pages, 80u);
}

// The guest flushes while a reload of the root is due that will find it good:
// nobody looked at the root, so it is synced.
TEST_F(Releases, AFlushWhileAReloadIsDueSyncs) {
  MapAndUse(kGva, kData);
  vm_.mmu().BumpGeneration();
  // A fault loads the new root; what was requested is still due.
  ASSERT_TRUE(cpu_->mmu().HandleFault(kGva, Read()).resume());
  const Gpa entry = EntryAt(kGva);
  ASSERT_TRUE(
      cpu_->mmu().HandleFault(kWindow + entry.value(), Write()).resume());
  ASSERT_NE(Now().unsync_pages, 0u);
  const uint64_t value = EntryFor(kData + 7);
  ASSERT_TRUE(vm_.host().WritePhysical(
      ToHpa(vm_.PfnOf(ToGfn(entry))) + PageOffset(Gva(entry.value())),
      std::as_bytes(std::span(&value, 1))));
  FlushAll();
  ExpectAt(kGva, kData + 7);
}

}  // namespace
}  // namespace shadowmmu::testing
