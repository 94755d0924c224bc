#include "src/mmu/table_tracking.h"

#include "src/base/check.h"
#include "src/mmu/spte_sweep.h"

namespace shadowmmu {
namespace {

SlotRmaps& RmapsOfTable(Vm& vm, const ShadowPage& page)
    ABSL_SHARED_LOCKS_REQUIRED(vm.lock) {
  const Memslot* slot = vm.slot_table().Find(page.role.space(), page.gfn);
  SMMU_CHECK(slot != nullptr)
      << "a shadow page of the guest table in " << page.gfn << " of "
      << page.role.space() << ", where there is no slot";
  return *slot->rmaps;
}

// Every spte that maps `gfn`, at every level, in every address space.
void WriteProtectEverywhere(Vm& vm, Gfn gfn, FlushObligation& flush)
    ABSL_SHARED_LOCKS_REQUIRED(vm.lock) {
  for (unsigned space = 0; space < kAddressSpaces; ++space) {
    const Memslot* slot =
        vm.slot_table().Find(static_cast<AddressSpace>(space), gfn);
    if (slot != nullptr) WriteProtectGfn(vm, *slot->rmaps, gfn, flush);
  }
}

}  // namespace

void TrackTable(Vm& vm, TableIndex table, FlushObligation& flush) {
  const ShadowPage& page = vm.arena.Page(table);
  RmapsOfTable(vm, page).Track(page.gfn, vm.generations.arena_epoch);
  vm.shadowed_tables[ToInt(page.role.space())].fetch_add(
      1, std::memory_order_seq_cst);
  WriteProtectEverywhere(vm, page.gfn, flush);
}

void UntrackTable(Vm& vm, TableIndex table) {
  const ShadowPage& page = vm.arena.Page(table);
  RmapsOfTable(vm, page).Untrack(page.gfn, vm.generations.arena_epoch);
  vm.shadowed_tables[ToInt(page.role.space())].fetch_sub(
      1, std::memory_order_relaxed);
}

void ForgetTable(Vm& vm, TableIndex table) {
  const ShadowPage& page = vm.arena.Page(table);
  RmapsOfTable(vm, page).Tighten(page.gfn, vm.generations.arena_epoch);
  UntrackTable(vm, table);
}

void LoosenTable(Vm& vm, TableIndex table) {
  const ShadowPage& page = vm.arena.Page(table);
  RmapsOfTable(vm, page).Loosen(page.gfn, vm.generations.arena_epoch);
}

void TightenTable(Vm& vm, TableIndex table, FlushObligation& flush) {
  const ShadowPage& page = vm.arena.Page(table);
  RmapsOfTable(vm, page).Tighten(page.gfn, vm.generations.arena_epoch);
  WriteProtectEverywhere(vm, page.gfn, flush);
}

bool IsTrackedSlow(Vm& vm, SlotCache& cache, Gfn gfn) {
  for (unsigned space = 0; space < kAddressSpaces; ++space) {
    if (vm.shadowed_tables[space].load(std::memory_order_seq_cst) == 0) {
      continue;
    }
    const Memslot* slot =
        cache.Find(vm.slot_table(), static_cast<AddressSpace>(space), gfn);
    if (slot != nullptr &&
        slot->rmaps->Tracked(gfn, vm.generations.arena_epoch) != 0) {
      return true;
    }
  }
  return false;
}

bool AnyTableShadowedIn(Vm& vm, Gfn gfn, Level level) {
  SMMU_DCHECK(level > Level::k4K);
  const uint64_t epoch = vm.generations.arena_epoch;
  bool any = false;
  for (unsigned space = 0; space < kAddressSpaces; ++space) {
    if (vm.shadowed_tables[space].load(std::memory_order_relaxed) == 0) {
      continue;
    }
    vm.slot_table().ForEachInGfnRange(
        static_cast<AddressSpace>(space), {gfn, PagesPerEntry(level)},
        [&](const Memslot& slot, GfnRange part) {
          any = any || slot.rmaps->AnyShadowed(part.begin, level, epoch);
        });
  }
  return any;
}

}  // namespace shadowmmu
