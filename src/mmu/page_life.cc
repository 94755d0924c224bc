#include "src/mmu/page_life.h"

#include "src/base/check.h"
#include "src/mmu/spte_sweep.h"
#include "src/mmu/spte_write.h"

namespace shadowmmu {
namespace {

SlotRmaps& RmapsOfTable(Vm& vm, const ShadowPage& page)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  const Memslot* slot = vm.slot_table().Find(page.role.space(), page.gfn);
  SMMU_CHECK(slot != nullptr)
      << "a shadow page of the guest table in " << page.gfn << " of "
      << page.role.space() << ", where there is no slot";
  return *slot->rmaps;
}

// Every spte that maps `gfn`, at every level, in every address space.
void WriteProtectGfn(Vm& vm, Gfn gfn, FlushObligation& flush)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  for (unsigned space = 0; space < kAddressSpaces; ++space) {
    const Memslot* slot =
        vm.slot_table().Find(static_cast<AddressSpace>(space), gfn);
    if (slot != nullptr) WriteProtectRange(vm, *slot->rmaps, {gfn, 1}, flush);
  }
}

}  // namespace

TableIndex FindOrMakePage(Vm& vm, Gfn gfn, PageRole role,
                          FlushObligation& flush) {
  const uint64_t generation = vm.generations.mmu_valid_gen;
  const TableIndex found = vm.pages.Find(gfn, role, generation);
  if (found != TableIndex::kNil) return found;
  const TableIndex made = vm.pages.Insert(gfn, role, generation);
  ++vm.counters.pages_created;
  if (!role.direct()) {
    RmapsOfTable(vm, vm.arena.Page(made))
        .Track(gfn, vm.generations.arena_epoch);
    ++vm.tracked_tables[ToInt(role.space())];
    WriteProtectGfn(vm, gfn, flush);
  }
  return made;
}

TableIndex LinkNewChild(Vm& vm, SpteRef ref, Gfn gfn, PageRole role,
                        FlushObligation& flush) {
  DropEntry(vm, ref, flush);
  const TableIndex child = FindOrMakePage(vm, gfn, role, flush);
  LinkTable(vm, ref, child);
  return child;
}

void UnmakePage(Vm& vm, TableIndex table, Clearing clearing,
                FlushObligation& flush) {
  const ShadowPage& page = vm.arena.Page(table);
  DropEntries(vm, table, clearing, flush);
  DropParents(vm, table, flush);
  if (!page.role.direct()) {
    RmapsOfTable(vm, page).Untrack(page.gfn, vm.generations.arena_epoch);
    --vm.tracked_tables[ToInt(page.role.space())];
  }
  vm.pages.Remove(table);
  vm.lists.DropTable(table);
  ++vm.counters.pages_zapped;
}

bool AnyTableShadowedIn(Vm& vm, Gfn gfn, Level level) {
  const uint64_t epoch = vm.generations.arena_epoch;
  const Gfn end = gfn + PagesPerEntry(level);
  for (unsigned space = 0; space < kAddressSpaces; ++space) {
    if (vm.tracked_tables[space] == 0) continue;
    bool any = false;
    vm.slot_table().ForEachInGfnRange(
        static_cast<AddressSpace>(space), {gfn, end - gfn},
        [&](const Memslot& slot, GfnRange part) {
          any = any || slot.rmaps->AnyTracked(part.begin, level, epoch);
        });
    if (any) return true;
  }
  return false;
}

}  // namespace shadowmmu
