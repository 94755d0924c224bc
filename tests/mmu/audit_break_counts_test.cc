// Invariant 11, what is counted equals what is there: each count is made wrong
// on purpose, and seen.

#include <gtest/gtest.h>

#include <memory>

#include "src/mmu/vcpu_state.h"
#include "tests/mmu/breakable_vm.h"

namespace shadowmmu::testing {
namespace {

using B = BreakableVm;

class AuditBreakCounts : public ::testing::Test {
 protected:
  void ExpectMiscounted(const std::string& words, const Damage& damage) {
    vm_.ExpectReported(11, words, damage);
  }

  BreakableVm vm_;
};

// ---- Lists ----

TEST_F(AuditBreakCounts, ADescriptorThatIsOnNoListIsReported) {
  ExpectMiscounted(" descriptors are on lists, ", [](Vm& vm) {
    vm.lock.AssertHeld();
    const uint32_t lost = vm.lists.descriptors().Take();
    return Undo([&vm, lost] {
      vm.lock.AssertHeld();
      vm.lists.descriptors().Put(lost);
    });
  });
}

TEST_F(AuditBreakCounts, ASlotThatCountsMoreSptesThanItHasIsReported) {
  ExpectMiscounted(" sptes on its rmaps, ", [](Vm& vm) {
    vm.lock.AssertHeld();
    SlotRmaps& rmaps = *SlotOf(vm, B::kSingle).rmaps;
    const SlotList list =
        rmaps.List(B::kSingle, Level::k4K, vm.generations.arena_epoch);
    rmaps.CountAdded(list);
    return Undo([&rmaps, list] { rmaps.CountRemoved(list, 1); });
  });
}

TEST_F(AuditBreakCounts, AnArrayOfPlacesThatNoTableHasIsReported) {
  ExpectMiscounted(" arrays of places, ", [](Vm& vm) {
    vm.lock.AssertHeld();
    const uint32_t lost = vm.lists.back_references().pool().Take();
    return Undo([&vm, lost] {
      vm.lock.AssertHeld();
      vm.lists.back_references().pool().Put(lost);
    });
  });
}

TEST_F(AuditBreakCounts, AFreeTableThatKeptItsPlacesIsReported) {
  ExpectMiscounted(" has an array of places, and is no page", [](Vm& vm) {
    vm.lock.AssertHeld();
    const TableIndex table = vm.arena.Take();
    vm.arena.Page(table).state = PageState::kFree;
    ListReserve reserve;
    reserve.place_arrays.Push(vm.lists.back_references().pool().Take());
    vm.lists.back_references().Ensure(table, reserve);
    return Undo([&vm, table] {
      vm.lock.AssertHeld();
      vm.lists.back_references().Drop(table);
      vm.arena.Put(table);
    });
  });
}

// ---- Pages ----

TEST_F(AuditBreakCounts, APageThatTheActiveListPassesOverIsReported) {
  ExpectMiscounted(" pages in the active list, ", [](Vm& vm) {
    vm.lock.AssertHeld();
    const TableIndex oldest = vm.pages.oldest();
    return Set(vm.arena.Page(oldest).list_next,
               vm.pages.Next(vm.pages.Next(oldest)));
  });
}

TEST_F(AuditBreakCounts, AnActiveListThatEndsTooSoonIsReported) {
  ExpectMiscounted("; the last is table ", [](Vm& vm) {
    vm.lock.AssertHeld();
    return Set(vm.arena.Page(vm.pages.oldest()).list_next, TableIndex::kNil);
  });
}

TEST_F(AuditBreakCounts, APageThatIsActiveAndNotMarkedSoIsReported) {
  const auto unmark = [](Vm& vm) {
    vm.lock.AssertHeld();
    return Set(vm.arena.Page(YoungestPage(vm)).state, PageState::kFree);
  };
  ExpectMiscounted(" active pages, ", unmark);
  ExpectMiscounted("is in use, in a table that is not", unmark);
}

TEST_F(AuditBreakCounts, AZappedTableThatIsNoEmptyRootIsReported) {
  const auto zap = [](Vm& vm) {
    vm.lock.AssertHeld();
    return Set(vm.arena.Page(YoungestPage(vm)).state, PageState::kZapped);
  };
  ExpectMiscounted(" is no empty root, and was not freed", zap);
  ExpectMiscounted(" pinned pages, ", zap);
}

TEST_F(AuditBreakCounts, APinnedPageThatIsNotThereIsReported) {
  ExpectMiscounted("0 pinned pages, 1 counted", [](Vm& vm) {
    vm.lock.AssertHeld();
    return Set(vm.pinned_pages, 1);
  });
}

TEST_F(AuditBreakCounts, ATableThatIsTakenAndNotUsedIsReported) {
  ExpectMiscounted(" tables in use, ", [](Vm& vm) {
    vm.lock.AssertHeld();
    const TableIndex lost = vm.arena.Take();
    return Undo([&vm, lost] {
      vm.lock.AssertHeld();
      vm.arena.Put(lost);
    });
  });
}

TEST_F(AuditBreakCounts, MoreTablesThanThePageLimitAllowsAreReported) {
  ExpectMiscounted(" tables in use, the page limit is ", [](Vm& vm) {
    vm.lock.AssertHeld();
    const uint32_t limit = vm.arena.limit();
    vm.arena.SetLimitForTesting(vm.arena.tables_in_use() - 1);
    return Undo([&vm, limit] {
      vm.lock.AssertHeld();
      vm.arena.SetLimitForTesting(limit);
    });
  });
}

TEST_F(AuditBreakCounts, APageThatOutlivesAFloodIsReported) {
  ExpectMiscounted(" was flooded by 3 stores, and is there", [](Vm& vm) {
    vm.lock.AssertHeld();
    return Set(vm.arena.Page(PageOf(vm, B::kRootTable)).write_flooding_count,
               3);
  });
}

TEST_F(AuditBreakCounts, AnEntryInAFreeTableIsReported) {
  ExpectMiscounted("is in use, in a table that is not", [](Vm& vm) {
    vm.lock.AssertHeld();
    const TableIndex free = vm.arena.Take();
    vm.arena.Put(free);
    return SetEntry(vm, SpteRef(free, 511), pte::kPresent);
  });
}

TEST_F(AuditBreakCounts, TranslationsThatNoPageHasAreReported) {
  ExpectMiscounted(" indirect pages, ", [](Vm& vm) {
    vm.lock.AssertHeld();
    const uint32_t lost = vm.arena.translations().Take();
    return Undo([&vm, lost] {
      vm.lock.AssertHeld();
      vm.arena.translations().Put(lost);
    });
  });
}

TEST_F(AuditBreakCounts, AnIndirectPageWithoutTranslationsIsReported) {
  ExpectMiscounted(") has translations 0", [](Vm& vm) {
    vm.lock.AssertHeld();
    return Set(vm.arena.Page(PageOf(vm, B::kRootTable)).translations, 0);
  });
}

TEST_F(AuditBreakCounts, TwoPagesWithOneArrayOfTranslationsAreReported) {
  ExpectMiscounted(" shares its translations with another", [](Vm& vm) {
    vm.lock.AssertHeld();
    const ShadowPage& other = vm.arena.Page(PageOf(vm, B::kTableInLarge));
    return Set(vm.arena.Page(PageOf(vm, B::kRootTable)).translations,
               other.translations);
  });
}

TEST_F(AuditBreakCounts, APageThatMiscountsItsEntriesIsReported) {
  for (const int wrong : {-1, 1}) {
    ExpectMiscounted(" entries, ", [wrong](Vm& vm) {
      vm.lock.AssertHeld();
      uint16_t& entries = vm.arena.Page(PageOf(vm, B::kRootTable)).entries;
      return Set(entries, static_cast<uint16_t>(entries + wrong));
    });
  }
}

TEST_F(AuditBreakCounts, AnEntryThatIsNeitherPresentNorClearIsReported) {
  ExpectMiscounted(" is not present, and not clear", [](Vm& vm) {
    vm.lock.AssertHeld();
    return SetEntry(vm, SpteRef(PageOf(vm, B::kRootTable), 400), pte::kUser);
  });
}

// ---- Roots ----

TEST_F(AuditBreakCounts, ARootThatIsHeldOnceTooOftenIsReported) {
  ExpectMiscounted(" is the root of 1 vCPUs, 2 counted", [](Vm& vm) {
    vm.lock.AssertHeld();
    return Set(vm.arena.Page(PageOf(vm, B::kRootTable)).root_count, 2);
  });
}

TEST_F(AuditBreakCounts, ARootThatNobodyCountsIsReported) {
  ExpectMiscounted(" is the root of 1 vCPUs, 0 counted", [](Vm& vm) {
    vm.lock.AssertHeld();
    return Set(vm.arena.Page(PageOf(vm, B::kRootTable)).root_count, 0);
  });
}

TEST_F(AuditBreakCounts, AVcpuThatHasForgottenItsRootIsReported) {
  ExpectMiscounted(" is the root of 0 vCPUs, 1 counted", [](Vm& vm) {
    vm.lock.AssertHeld();
    return Set(vm.vcpus[0]->root, RootHandle());
  });
}

// ---- Write tracking ----

RmapChunk& ChunkOf(Vm& vm, Gfn gfn) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  return *SlotOf(vm, gfn).rmaps->Chunk(gfn, vm.generations.arena_epoch);
}

TEST_F(AuditBreakCounts, AGfnThatCountsAnotherNumberOfPagesIsReported) {
  ExpectMiscounted(
      "gfn 0x10 of as 0 is tracked by 1 pages, 0 counted", [](Vm& vm) {
        vm.lock.AssertHeld();
        return Set(ChunkOf(vm, B::kRootTable).Count(B::kRootTable), 0);
      });
  ExpectMiscounted(
      "gfn 0x11f of as 0 is tracked by 0 pages, 1 counted", [](Vm& vm) {
        vm.lock.AssertHeld();
        return Set(ChunkOf(vm, B::kRootTable).Count(Gfn(0x11f)), 1);
      });
}

TEST_F(AuditBreakCounts, AChunkThatCountsAnotherNumberOfTablesIsReported) {
  ExpectMiscounted(
      "the chunk of gfn 0x1000 holds 1 shadowed tables, 2 counted", [](Vm& vm) {
        vm.lock.AssertHeld();
        return Set(ChunkOf(vm, B::kTableInLarge).shadowed_tables, 2);
      });
}

TEST_F(AuditBreakCounts, AGibThatCountsAnotherNumberOfTablesIsReported) {
  ExpectMiscounted(
      "the GiB of gfn 0x0 holds 1 shadowed tables, 0 counted", [](Vm& vm) {
        vm.lock.AssertHeld();
        std::atomic<uint32_t>* count = nullptr;
        SlotOf(vm, B::kTableInLarge)
            .rmaps->ForEachGigabyte(vm.generations.arena_epoch,
                                    [&](Gfn, GigabyteRecord& record) {
                                      count = &record.shadowed_tables;
                                    });
        return Set(*count, 0);
      });
}

TEST_F(AuditBreakCounts, ASlotThatCountsAnotherNumberOfTablesIsReported) {
  ExpectMiscounted(": 16 pages from gfn 0x2000", [](Vm& vm) {
    vm.lock.AssertHeld();
    // One more, and everything below the slot's own count put right again.
    const std::shared_ptr<SlotRmaps> rmaps =
        SlotOf(vm, B::kTableSlot.begin).rmaps;
    const uint64_t epoch = vm.generations.arena_epoch;
    const auto add_below = [rmaps, epoch](uint32_t number) {
      RmapChunk& chunk = *rmaps->Chunk(B::kTableSlot.begin, epoch);
      chunk.Count(B::kTableSlot.begin) += number;
      chunk.shadowed_tables += number;
      rmaps->ForEachGigabyte(epoch, [number](Gfn, GigabyteRecord& record) {
        record.shadowed_tables += number;
      });
    };
    rmaps->Track(B::kTableSlot.begin, epoch);
    add_below(~0u);  // minus one
    return Undo([rmaps, epoch, add_below] {
      add_below(1);
      rmaps->Untrack(B::kTableSlot.begin, epoch);
    });
  });
}

TEST_F(AuditBreakCounts, AVmThatCountsAnotherNumberOfTablesIsReported) {
  for (const unsigned space : {0u, 1u}) {
    ExpectMiscounted(space == 0 ? "as 0 has " : "as 1 has 0 shadowed",
                     [space](Vm& vm) {
                       vm.lock.AssertHeld();
                       std::atomic<uint64_t>& count = vm.shadowed_tables[space];
                       return Set(count, count + 1);
                     });
  }
}

}  // namespace
}  // namespace shadowmmu::testing
