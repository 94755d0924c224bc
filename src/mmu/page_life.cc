#include "src/mmu/page_life.h"

#include "src/mmu/spte_sweep.h"
#include "src/mmu/spte_write.h"
#include "src/mmu/sync.h"
#include "src/mmu/table_tracking.h"
#include "src/mmu/unsync_marks.h"

namespace shadowmmu {
namespace {

// What can be done alone only.
void SyncFound(Vm& vm, TableIndex table,
               FlushObligation& flush) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  vm.lock.AssertHeld();
  SyncPage(vm, table, flush);
}
void SyncTableOf(Vm& vm, Gfn gfn,
                 FlushObligation& flush) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  vm.lock.AssertHeld();
  SyncGfn(vm, gfn, flush);
}
void MakeLinkable(Vm& vm, SpteRef ref, TableIndex child,
                  FlushObligation& flush) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  vm.lock.AssertHeld();
  DropEntry(vm, ref, flush);
  SyncBelow(vm, child, flush);
}

bool HasPageFor(Vm& vm, PageRole role) ABSL_SHARED_LOCKS_REQUIRED(vm.lock)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.structure_lock) {
  return vm.arena.free_tables() != 0 &&
         (role.direct() || vm.arena.translations().available() != 0);
}

}  // namespace

TableIndex FindOrMakePage(Vm& vm, Writer& writer, VmHold hold, Gfn gfn,
                          PageRole role, FlushObligation& flush) {
  const bool alone = hold == VmHold::kExclusive;
  const uint64_t generation = vm.generations.mmu_valid_gen;
  const TableIndex found = vm.pages.Find(gfn, role, generation);
  if (found != TableIndex::kNil) {
    if (!vm.arena.Page(found).unsync) return found;
    if (!alone) return TableIndex::kNil;
    SyncFound(vm, found, flush);
    return found;
  }
  // An upper level is never older than its table, nor is what shares it.
  const bool syncs =
      !role.direct() && role.level() != Level::k4K && AnyUnsync(vm, gfn);
  if (!alone && (syncs || !HasPageFor(vm, role))) return TableIndex::kNil;
  const TableIndex made = vm.pages.Insert(gfn, role, generation);
  vm.lists.BeginTable(made);
  writer.pages_created.Increment();
  if (!role.direct()) TrackTable(vm, made, flush);
  if (syncs) SyncTableOf(vm, gfn, flush);
  return made;
}

TableIndex LinkChild(Vm& vm, Writer& writer, VmHold hold, SpteRef ref, Gfn gfn,
                     PageRole role, FlushObligation& flush) {
  MutexLock structure(&vm.structure_lock);
  const bool alone = hold == VmHold::kExclusive;
  if (vm.arena.Load(ref).present()) {
    // Somebody else may have linked it just now.
    const TableIndex linked = LinkedChild(vm, ref, gfn, role);
    if (linked != TableIndex::kNil || !alone) return linked;
  }
  const TableIndex child = FindOrMakePage(vm, writer, hold, gfn, role, flush);
  if (child == TableIndex::kNil) return child;
  if (alone) {
    MakeLinkable(vm, ref, child, flush);
  } else if (OutOfStep(vm, child)) {
    flush.Pay(vm);
    return TableIndex::kNil;
  }
  flush.Pay(vm);
  LinkTable(vm, writer, ref, child);
  return child;
}

void UnmakePage(Vm& vm, TableIndex table, Clearing clearing,
                FlushObligation& flush) {
  const ShadowPage& page = vm.arena.Page(table);
  DropEntries(vm, table, clearing, flush);
  DropParents(vm, table, flush);
  if (page.unsync) {
    ClearUnsync(vm, table);
    ForgetTable(vm, table);
  } else if (!page.role.direct()) {
    UntrackTable(vm, table);
  }
  vm.pages.Remove(table);
  vm.lists.DropTable(table);
  ++vm.counters.pages_zapped;
}

}  // namespace shadowmmu
