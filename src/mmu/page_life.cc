#include "src/mmu/page_life.h"

#include "src/mmu/spte_sweep.h"
#include "src/mmu/spte_write.h"
#include "src/mmu/sync.h"
#include "src/mmu/table_tracking.h"
#include "src/mmu/unsync_marks.h"

namespace shadowmmu {

TableIndex FindOrMakePage(Vm& vm, Gfn gfn, PageRole role,
                          FlushObligation& flush) {
  const uint64_t generation = vm.generations.mmu_valid_gen;
  const TableIndex found = vm.pages.Find(gfn, role, generation);
  if (found != TableIndex::kNil) {
    SyncPage(vm, found, flush);
    return found;
  }
  const TableIndex made = vm.pages.Insert(gfn, role, generation);
  ++vm.counters.pages_created;
  if (!role.direct()) {
    TrackTable(vm, made, flush);
    // An upper level is never older than its table, nor is what shares it.
    if (role.level() != Level::k4K) SyncGfn(vm, gfn, flush);
  }
  return made;
}

TableIndex LinkNewChild(Vm& vm, SpteRef ref, Gfn gfn, PageRole role,
                        FlushObligation& flush) {
  DropEntry(vm, ref, flush);
  const TableIndex child = FindOrMakePage(vm, gfn, role, flush);
  SyncBelow(vm, child, flush);
  LinkTable(vm, ref, child);
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
