// Every invariant that the audit checks is broken on purpose, and seen: here
// those of shadow pages as such (4 to 10, 12, 13; 8 has its own file). The
// counts, 11, have their own file.

#include <gtest/gtest.h>

#include <memory>
#include <utility>

#include "src/mmu/spte_sweep.h"
#include "src/mmu/spte_write.h"
#include "src/mmu/vcpu_state.h"
#include "src/mmu/zap.h"
#include "tests/mmu/breakable_vm.h"

namespace shadowmmu::testing {
namespace {

using B = BreakableVm;

class AuditBreakPages : public ::testing::Test {
 protected:
  BreakableVm vm_;
};

// ---- 4, from the vCPU's side: it walks from the root that it holds ----

TEST_F(AuditBreakPages, Invariant4AVcpuThatWalksFromAnotherRootIsReported) {
  vm_.ExpectReported(4, "vCPU 0 walks from another root", [](Vm& vm) {
    vm.lock.AssertHeld();
    Hpa& root = vm.vcpus[0]->hardware.root;
    return Set(root, root + kPageSize);
  });
}

TEST_F(AuditBreakPages, Invariant4APaeRootWithAWrongEntryIsReported) {
  for (const unsigned entry : {0u, 3u}) {
    vm_.ExpectReported(4, "vCPU 2 walks from another root", [&](Vm& vm) {
      vm.lock.AssertHeld();
      std::atomic<uint64_t>& place = vm.vcpus[2]->pae_entries[entry];
      const uint64_t old = place.exchange(place.load() | pte::kWritable);
      return Undo([&place, old] { place = old; });
    });
  }
}

TEST_F(AuditBreakPages, Invariant4APaeRootThatTheCpuMarksAccessedIsFine) {
  Vm& vm = vm_.inside();
  {
    const VmLock held(vm);
    for (unsigned i : {0u, 3u}) vm.vcpus[2]->pae_entries[i] |= pte::kAccessed;
  }
  EXPECT_EQ(vm_.small().Violations(), "");
}

TEST_F(AuditBreakPages, Invariant4APaeRootThatLiesElsewhereIsReported) {
  vm_.ExpectReported(4, "vCPU 2 walks from another root", [](Vm& vm) {
    vm.lock.AssertHeld();
    Hpa& root = vm.vcpus[2]->hardware.root;
    return Set(root, root + 32);
  });
}

TEST_F(AuditBreakPages, Invariant4TwoRootsOfOneKeyAreReported) {
  vm_.ExpectReported(4, "vCPU 0 keeps two roots of one key", [](Vm& vm) {
    vm.lock.AssertHeld();
    VcpuState& vcpu = *vm.vcpus[0];
    SpinLockHolder held(&vcpu.roots_lock);
    return Set(vcpu.previous[1],
               PreviousRoot{.key = vcpu.root_key, .root = vcpu.root});
  });
}

TEST_F(AuditBreakPages, Invariant4APcidOutsideLongModeIsReported) {
  vm_.ExpectReported(4, "vCPU 2 keeps two roots of one key, or one that no CR3",
                     [](Vm& vm) {
                       vm.lock.AssertHeld();
                       return Set(vm.vcpus[2]->root_key.pcid, Pcid{1});
                     });
}

// ---- 5: lookups return what is there, and nothing else ----

TEST_F(AuditBreakPages, Invariant5APageThatIsNotInTheHashIsReported) {
  vm_.ExpectReported(5, "finds table 0", [](Vm& vm) {
    vm.lock.AssertHeld();
    // It stands in the bucket of another gfn now.
    ShadowPage& page = vm.arena.Page(YoungestPage(vm));
    return Set(page.gfn, page.gfn + 3 * 512);
  });
}

TEST_F(AuditBreakPages, Invariant5TwoPagesOfOneKeyAreReported) {
  // The page tables in kTableSlot and kTableInLarge become one.
  vm_.ExpectReported(5, "finds table", [](Vm& vm) {
    vm.lock.AssertHeld();
    const TableIndex a = PageOf(vm, B::kTableSlot.begin);
    const TableIndex b = PageOf(vm, B::kTableInLarge);
    return Set(vm.arena.Page(a).gfn, vm.arena.Page(b).gfn);
  });
}

// ---- 13: in a slot that logs, what is writable is small and marked ----

TEST_F(AuditBreakPages, Invariant13AWritablePageThatIsNotMarkedIsReported) {
  ASSERT_TRUE(
      vm_.small()
          .mmu()
          .SetSlotFlags(AddressSpace::kNormal, SlotId{0}, SlotFlags::kLogDirty)
          .ok());
  ASSERT_TRUE(vm_.small().vcpu(0).Touch(B::kSingleGva, Write()).hit());
  vm_.ExpectReported(13, "which is not marked dirty", [](Vm& vm) {
    vm.lock.AssertHeld();
    DirtyBitmap& dirty = *SlotOf(vm, B::kSingle).dirty;
    dirty.Take(B::kSingle.value() / DirtyBitmap::kPagesPerWord);
    return Undo([&dirty] { dirty.Mark(B::kSingle.value()); });
  });
}

TEST_F(AuditBreakPages, Invariant13ALeafThatIsWritableAndProtectedIsReported) {
  vm_.ExpectReported(13, "is log-protected, and writable", [](Vm& vm) {
    vm.lock.AssertHeld();
    const SpteRef leaf = LeafOf(vm, B::kSingle);
    return SetEntry(vm, leaf, vm.arena.Load(leaf).bits() | pte::kLogProtected);
  });
}

TEST_F(AuditBreakPages, Invariant13ALargeLeafThatIsProtectedForALogIsReported) {
  vm_.ExpectReported(13, "is log-protected, and large", [](Vm& vm) {
    vm.lock.AssertHeld();
    const SpteRef leaf = LeafOf(vm, B::kLarge.begin, Level::k2M);
    const uint64_t bits = vm.arena.Load(leaf).bits() & ~pte::kWritable;
    return SetEntry(vm, leaf, bits | pte::kLogProtected);
  });
}

TEST_F(AuditBreakPages, Invariant1WhatALogProtectsMayGrantNoMoreThanItsRole) {
  vm_.ExpectReported(1, " grants ", [](Vm& vm) {
    vm.lock.AssertHeld();
    const SpteRef leaf = LeafOf(vm, B::kReadOnly);
    return SetEntry(vm, leaf, vm.arena.Load(leaf).bits() | pte::kLogProtected);
  });
}

TEST_F(AuditBreakPages, Invariant7ATableThatALogProtectsIsReported) {
  vm_.ExpectReported(
      7, " may be made to write the shadowed guest table in ", [](Vm& vm) {
        vm.lock.AssertHeld();
        const SpteRef leaf = LeafOf(vm, B::kRootTable);
        return SetEntry(vm, leaf,
                        vm.arena.Load(leaf).bits() | pte::kLogProtected);
      });
}

TEST_F(AuditBreakPages, Invariant13ALargePageOfASlotThatLogsIsReported) {
  auto dirty = DirtyBitmap::Create(vm_.small().host(), B::kLarge.pages);
  ASSERT_TRUE(dirty.ok()) << dirty.status();
  for (uint64_t i = 0; i < B::kLarge.pages; ++i) (*dirty)->Mark(i);
  const auto log = [&](Vm& vm) {
    vm.lock.AssertHeld();
    // As if logging had begun, and nothing been split.
    auto& place = const_cast<std::shared_ptr<DirtyBitmap>&>(
        SlotOf(vm, B::kLarge.begin).dirty);
    place = *dirty;
    return Undo([&place] { place = nullptr; });
  };
  (*dirty)->Arm();
  vm_.ExpectReported(13, " at 2M", log);
}

// ---- 6: the active list is in order of generation ----

TEST_F(AuditBreakPages, Invariant6AYoungPageOfAnOldGenerationIsReported) {
  vm_.ExpectReported(6, "of generation 0 stands behind one of 1", [](Vm& vm) {
    vm.lock.AssertHeld();
    return Set(vm.arena.Page(YoungestPage(vm)).mmu_valid_gen, 0);
  });
}

TEST_F(AuditBreakPages, Invariant6AListThatGoesInACircleIsReported) {
  vm_.ExpectReported(6, "does not end", [](Vm& vm) {
    vm.lock.AssertHeld();
    return Set(vm.arena.Page(YoungestPage(vm)).list_next, vm.pages.oldest());
  });
}

TEST_F(AuditBreakPages, Invariant6AListThatLeavesTheArenaIsReported) {
  vm_.ExpectReported(6, "the active list names table", [](Vm& vm) {
    vm.lock.AssertHeld();
    return Set(vm.arena.Page(YoungestPage(vm)).list_next,
               static_cast<TableIndex>(vm.arena.end() + 7));
  });
}

TEST_F(AuditBreakPages, Invariant6APageThatIsNotLinkedBackIsReported) {
  vm_.ExpectReported(6, "not linked back", [](Vm& vm) {
    vm.lock.AssertHeld();
    return Set(vm.arena.Page(YoungestPage(vm)).list_prev, TableIndex::kNil);
  });
}

TEST_F(AuditBreakPages, Invariant6APageInTheListThatIsNotActiveIsReported) {
  for (const PageState state : {PageState::kFree, PageState::kZapped}) {
    vm_.ExpectReported(6, "is in the active list, and not active", [&](Vm& vm) {
      vm.lock.AssertHeld();
      return Set(vm.arena.Page(YoungestPage(vm)).state, state);
    });
  }
}

// ---- 7: a shadowed guest table is writable through no spte ----

class AuditBreakWritable : public AuditBreakPages,
                           public ::testing::WithParamInterface<
                               std::tuple<Gfn, Gfn, Level, AddressSpace>> {};

TEST_P(AuditBreakWritable, Invariant7AWritableSpteOverATableIsReported) {
  const auto [table, leaf_gfn, level, space] = GetParam();
  std::ostringstream words;
  words << " can write the shadowed guest table in " << table << " (" << space
        << ", at " << level << ")";
  vm_.ExpectReported(
      7, words.str(), [gfn = leaf_gfn, at = level, as = space](Vm& vm) {
        vm.lock.AssertHeld();
        const SpteRef leaf = LeafOf(vm, gfn, at, as);
        const Spte spte = vm.arena.Load(leaf);
        EXPECT_FALSE(spte.writable()) << "the damage was there before";
        return SetEntry(vm, leaf, spte.bits() | pte::kWritable);
      });
}

INSTANTIATE_TEST_SUITE_P(
    Ways, AuditBreakWritable,
    ::testing::Values(std::tuple(B::kRootTable, B::kRootTable, Level::k4K,
                                 AddressSpace::kNormal),
                      std::tuple(B::kRootTable, B::kRootTable, Level::k4K,
                                 AddressSpace::kSmm),
                      std::tuple(B::kTableInLarge, B::kLarge.begin, Level::k2M,
                                 AddressSpace::kNormal)));

// ---- 9: no shadow page outlives the slot of its guest table ----

TEST_F(AuditBreakPages, Invariant9AShadowedTableWithoutASlotIsReported) {
  vm_.ExpectReportedUnlocked(9, "shadows the table in gfn 0x2000", [](Vm& vm) {
    std::shared_ptr<const Memslot> slot;
    {
      MutexLock update(&vm.slots.update_lock());
      const SlotTable& table = vm.slots.Current();
      slot = table.FindById(AddressSpace::kNormal, SlotId{2});
      vm.slots.Publish(table.Without(*slot));
    }
    return Undo([&vm, slot] {
      MutexLock update(&vm.slots.update_lock());
      vm.slots.Publish(vm.slots.Current().With(slot));
    });
  });
}

using AuditBreakPagesDeathTest = AuditBreakPages;

TEST_F(AuditBreakPagesDeathTest, Invariant9FreeingTheRmapsOfSptesIsACheck) {
  EXPECT_DEATH(
      {
        Vm& vm = vm_.inside();
        MutexLock update(&vm.slots.update_lock());
        const SlotTable& table = vm.slots.Current();
        std::shared_ptr<const Memslot> slot =
            table.FindById(AddressSpace::kNormal, SlotId{0});
        vm.slots.Publish(table.Without(*slot));
        slot.reset();
      },
      "a slot dies under sptes that map it");
}

// ---- 10: rights that are taken away leave a flush, which is paid ----

TEST(FlushObligationDeathTest, Invariant10AnUnpaidFlushIsACheck) {
  if (!kDebugChecks) GTEST_SKIP() << "checked in debug builds";
  EXPECT_DEATH(
      {
        FlushObligation flush;
        flush.Owe();
      },
      "a TLB flush was owed and never paid");
}

TEST_F(AuditBreakPagesDeathTest, Invariant10DroppingAnEntryOwesAFlush) {
  if (!kDebugChecks) GTEST_SKIP() << "checked in debug builds";
  EXPECT_DEATH(
      {
        const VmLock held(vm_.inside());
        FlushObligation flush;
        DropEntry(vm_.inside(), LeafOf(vm_.inside(), B::kSingle), flush);
      },
      "never paid");
}

TEST_F(AuditBreakPagesDeathTest, Invariant10WriteProtectingOwesAFlush) {
  if (!kDebugChecks) GTEST_SKIP() << "checked in debug builds";
  EXPECT_DEATH(
      {
        Vm& vm = vm_.inside();
        const VmLock held(vm);
        FlushObligation flush;
        WriteProtectRange(vm, *SlotOf(vm, B::kSingle).rmaps, {B::kSingle, 1},
                          Protect::kWholly, flush);
      },
      "never paid");
}

// Makes `leaf`, which maps kSingle, map it by `spte`.
void Put(Vm& vm, SpteRef leaf, Spte spte, FlushObligation& flush)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  Writer writer;
  SetLeaf(vm, writer, VmHold::kExclusive, leaf,
          {.gfn = B::kSingle, .spte = spte, .if_tracked = spte}, flush);
}

TEST_F(AuditBreakPages, Invariant10WhatTakesNoRightsAwayOwesNothing) {
  Vm& vm = vm_.inside();
  const VmLock held(vm);
  FlushObligation flush;
  for (const Protect why : {Protect::kForLog, Protect::kWholly}) {
    WriteProtectRange(vm, *SlotOf(vm, B::kReadOnly).rmaps, {B::kReadOnly, 1},
                      why, flush);
    EXPECT_FALSE(flush.owed()) << "it was not writable";
  }
  EXPECT_FALSE(vm.arena.Load(LeafOf(vm, B::kReadOnly)).may_write());
  DropEntry(vm, SpteRef(PageOf(vm, B::kRootTable), 500), flush);
  EXPECT_FALSE(flush.owed()) << "it was not present";
  const SpteRef leaf = LeafOf(vm, B::kSingle);
  Put(vm, leaf, vm.arena.Load(leaf), flush);
  EXPECT_FALSE(flush.owed()) << "it stayed the same";
}

TEST_F(AuditBreakPages, Invariant10EveryLossOfRightsOrOfTheTargetIsOwed) {
  Vm& vm = vm_.inside();
  const VmLock held(vm);
  const SpteRef leaf = LeafOf(vm, B::kSingle);
  const Spte full = vm.arena.Load(leaf);
  const auto owes = [&](uint64_t bits) {
    vm.lock.AssertHeld();
    FlushObligation flush;
    Put(vm, leaf, Spte(bits), flush);
    const bool owed = flush.owed();
    flush.Pay(vm);
    Put(vm, leaf, full, flush);
    flush.Pay(vm);
    return owed;
  };
  EXPECT_TRUE(owes(full.bits() & ~pte::kWritable));
  EXPECT_TRUE(owes(full.bits() & ~pte::kUser));
  EXPECT_TRUE(owes(full.bits() | pte::kNoExecute));
  EXPECT_TRUE(owes(full.bits() ^ uint64_t{1} << 20)) << "another frame";
  EXPECT_TRUE(owes(full.bits() | pte::kWriteThrough | pte::kCacheDisable));
  EXPECT_TRUE(owes(full.bits() | uint64_t{3} << pte::kKeyShift));
  EXPECT_FALSE(owes(full.bits()));
}

TEST_F(AuditBreakPagesDeathTest, Invariant10AZapThatIsNotCommittedIsACheck) {
  if (!kDebugChecks) GTEST_SKIP() << "checked in debug builds";
  EXPECT_DEATH(
      {
        const VmLock held(vm_.inside());
        ZapBatch batch;
        batch.Zap(vm_.inside(), YoungestPage(vm_.inside()));
      },
      "a zap was not committed");
}

// ---- 12: no page is of a generation yet to come ----

TEST_F(AuditBreakPages, Invariant12APageOfAGenerationYetToComeIsReported) {
  vm_.ExpectReported(
      12, "is of generation 2, which is yet to come", [](Vm& vm) {
        vm.lock.AssertHeld();
        return Set(vm.arena.Page(YoungestPage(vm)).mmu_valid_gen, 2);
      });
}

}  // namespace
}  // namespace shadowmmu::testing
