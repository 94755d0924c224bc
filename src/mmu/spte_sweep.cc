#include "src/mmu/spte_sweep.h"

#include "absl/base/attributes.h"
#include "src/base/check.h"
#include "src/mmu/removals.h"
#include "src/mmu/rmap_walk.h"
#include "src/mmu/spte_write.h"

namespace shadowmmu {
namespace {

// A direct page table maps 512 gfns in a row: all their heads are in one chunk,
// or in those of the few slots that share it.
template <Clearing clearing>
void DropDirectLeaves(Vm& vm, TableIndex table)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  ShadowPage& page = vm.arena.Page(table);
  const Spte none = vm.format.NotPresent();
  const GfnRange gfns{page.gfn, kEntriesPerTable};
  SMMU_DCHECK(AlignDown(page.gfn, Level::k2M) == page.gfn);
  vm.slot_table().ForEachInGfnRange(
      page.role.space(), gfns, [&](const Memslot& slot, GfnRange part) {
        vm.lock.AssertHeld();
        SlotRmaps& rmaps = *slot.rmaps;
        const SlotList list =
            rmaps.List(part.begin, Level::k4K, vm.generations.arena_epoch);
        RmapHead* const heads = list.head;
        if (heads == nullptr) return;
        const auto pages = static_cast<unsigned>(part.pages);
        const SpteRef first(table,
                            static_cast<unsigned>(part.begin - page.gfn));
        std::atomic<uint64_t>* const entries = &vm.arena.Entry(first);
        uint32_t dropped = 0;
        for (unsigned i = 0; i < pages; ++i) {
          const Spte old(entries[i].load(std::memory_order_relaxed));
          if (!old.present()) continue;
          Clear<clearing>(entries[i], none);
          const auto ref = SpteRef::FromBits(first.bits() + i);
          vm.lists.Remove(heads[i], ref,
                          rmaps.Owner(part.begin + i, Level::k4K));
          ++dropped;
        }
        rmaps.CountRemoved(list, dropped);
        page.entries = static_cast<uint16_t>(page.entries - dropped);
        vm.counters.sptes_zapped += dropped;
      });
}

// Any other table: its leaves in batches, its links one by one.
template <Clearing clearing>
void DropOthers(Vm& vm, TableIndex table, FlushObligation& flush)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  ShadowPage& page = vm.arena.Page(table);
  const PageRole role = page.role;
  const Spte none = vm.format.NotPresent();
  std::atomic<uint64_t>* const entries = &vm.arena.Entry(SpteRef(table, 0));
  Removals<> removals(vm);
  for (unsigned i = 0; i < kEntriesPerTable && page.entries != 0; ++i) {
    const Spte spte(entries[i].load(std::memory_order_relaxed));
    if (!spte.present()) continue;
    const SpteRef ref(table, i);
    if (!spte.leaf(role.level())) {
      DropEntry(vm, ref, flush);
      continue;
    }
    Clear<clearing>(entries[i], none);
    --page.entries;
    removals.Add(ref, role, vm.arena.GfnOf(ref));
  }
  removals.Finish();
}

template <Clearing clearing>
void DropEntriesBy(Vm& vm, TableIndex table, FlushObligation& flush)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  const PageRole role = vm.arena.Page(table).role;
  if (role.direct() && role.level() == Level::k4K) {
    DropDirectLeaves<clearing>(vm, table);
  } else {
    DropOthers<clearing>(vm, table, flush);
  }
}

// Clears every entry on an rmap, and empties it.
ABSL_ATTRIBUTE_ALWAYS_INLINE inline void DropList(Vm& vm, SlotRmaps& rmaps,
                                                  Gfn gfn, Level level,
                                                  const LookAhead<>& ahead,
                                                  FlushObligation& flush)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  const Spte none = vm.format.NotPresent();
  const SlotList list = rmaps.List(gfn, level, vm.generations.arena_epoch);
  RmapHead& head = *list.head;
  uint32_t dropped = 0;
  vm.lists.ForEach(
      head,
      [&](SpteRef ref) {
        vm.lock.AssertHeld();
        const Spte old = Clear<Clearing::kExchange>(vm.arena.Entry(ref), none);
        SMMU_CHECK(old.present())
            << ref << " is on a list and not present; " << vm.lists.Print(head);
        --vm.arena.Page(ref.table()).entries;
        ++dropped;
      },
      ahead);
  vm.lists.Clear(head, rmaps.Owner(gfn, level));
  rmaps.CountRemoved(list, dropped);
  vm.counters.sptes_zapped += dropped;
  flush.Owe();
}

// Beside fast faults, which make what is log-protected writable again.
void WriteProtect(std::atomic<uint64_t>& entry, FlushObligation& flush) {
  if (!Spte(entry.load(std::memory_order_relaxed)).may_write()) return;
  const Spte old(entry.fetch_and(~pte::kMayWrite, std::memory_order_acq_rel));
  if (old.writable()) flush.Owe();
}

// Alone. One bit is set and the other is not: both change at once.
void LogProtect(std::atomic<uint64_t>& entry, FlushObligation& flush) {
  if (!Spte(entry.load(std::memory_order_relaxed)).writable()) return;
  entry.fetch_xor(pte::kMayWrite, std::memory_order_acq_rel);
  flush.Owe();
}

}  // namespace

void DropEntries(Vm& vm, TableIndex table, Clearing clearing,
                 FlushObligation& flush) {
  const ShadowPage& page = vm.arena.Page(table);
  if (page.entries == 0) return;
  flush.Owe();
  if (clearing == Clearing::kExchange) {
    DropEntriesBy<Clearing::kExchange>(vm, table, flush);
  } else {
    DropEntriesBy<Clearing::kStore>(vm, table, flush);
  }
  SMMU_CHECK_EQ(page.entries, 0u) << "more entries counted than there are";
}

bool ClearAccessedEntries(Vm& vm, TableIndex table) {
  bool used = false;
  unsigned left = vm.arena.Page(table).entries;
  for (unsigned i = 0; left != 0; ++i) {
    std::atomic<uint64_t>& entry = vm.arena.Entry(SpteRef(table, i));
    const Spte spte(entry.load(std::memory_order_relaxed));
    if (!spte.present()) continue;
    --left;
    if (!spte.accessed()) continue;
    entry.fetch_and(~pte::kAccessed, std::memory_order_relaxed);
    used = true;
  }
  return used;
}

void DropRefs(Vm& vm, std::span<const SpteRef> refs, FlushObligation& flush) {
  DropRefsAhead<>(vm, refs, flush);
}

void DropRange(Vm& vm, SlotRmaps& rmaps, GfnRange gfns,
               FlushObligation& flush) {
  const LookAhead<> ahead(vm);
  rmaps.ForEachHead(
      gfns, vm.generations.arena_epoch,
      [&](RmapHead&, Gfn gfn, Level level) {
        vm.lock.AssertHeld();
        DropList(vm, rmaps, gfn, level, ahead, flush);
      },
      ahead);
}

void SplitRange(Vm& vm, SlotRmaps& rmaps, GfnRange gfns,
                FlushObligation& flush) {
  const LookAhead<> ahead(vm);
  rmaps.ForEachHead(
      gfns, vm.generations.arena_epoch,
      [&](RmapHead& head, Gfn gfn, Level level) {
        vm.lock.AssertHeld();
        if (level != Level::k4K) {
          DropList(vm, rmaps, gfn, level, ahead, flush);
          return;
        }
        vm.lists.ForEach(
            head,
            [&](SpteRef ref) {
              vm.lock.AssertHeld();
              LogProtect(vm.arena.Entry(ref), flush);
            },
            ahead);
      },
      ahead);
}

void WriteProtectRange(Vm& vm, SlotRmaps& rmaps, GfnRange gfns, Protect why,
                       FlushObligation& flush) {
  if (why == Protect::kForLog) {
    ForEachEntry<LookAhead<>>(
        vm, rmaps, gfns,
        [&](std::atomic<uint64_t>& entry) { LogProtect(entry, flush); });
  } else {
    ForEachEntry<LookAhead<>>(
        vm, rmaps, gfns,
        [&](std::atomic<uint64_t>& entry) { WriteProtect(entry, flush); });
  }
}

void WriteProtectGfn(Vm& vm, SlotRmaps& rmaps, Gfn gfn,
                     FlushObligation& flush) {
  const LookAhead<> ahead(vm);
  for (Level level = Level::k4K; level <= Level::k1G; level = Above(level)) {
    if (level != Level::k1G && !rmaps.HasChunk(gfn)) continue;
    const LockedList locked(rmaps, gfn, level, vm.generations.arena_epoch);
    vm.lists.ForEach(
        *locked.list().head,
        [&](SpteRef ref) {
          vm.lock.AssertReaderHeld();
          WriteProtect(vm.arena.Entry(ref), flush);
        },
        ahead);
  }
}

bool ClearAccessedRange(Vm& vm, SlotRmaps& rmaps, GfnRange gfns) {
  bool young = false;
  ForEachEntry<LookAhead<>>(vm, rmaps, gfns, [&](std::atomic<uint64_t>& entry) {
    if (!Spte(entry.load(std::memory_order_relaxed)).accessed()) return;
    entry.fetch_and(~pte::kAccessed, std::memory_order_relaxed);
    young = true;
  });
  return young;
}

bool TestAccessedRange(Vm& vm, SlotRmaps& rmaps, GfnRange gfns) {
  bool young = false;
  ForEachEntry<LookAhead<>>(vm, rmaps, gfns, [&](std::atomic<uint64_t>& entry) {
    young |= Spte(entry.load(std::memory_order_relaxed)).accessed();
  });
  return young;
}

}  // namespace shadowmmu
