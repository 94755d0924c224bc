#include "src/mmu/zap.h"

#include "src/base/check.h"
#include "src/mmu/page_life.h"
#include "src/mmu/vcpu_state.h"

namespace shadowmmu {

void ZapBatch::Zap(Vm& vm, TableIndex table, Clearing clearing) {
  ShadowPage& page = vm.arena.Page(table);
  const bool obsolete = page.mmu_valid_gen != vm.generations.mmu_valid_gen;
  FlushObligation owed(obsolete ? FlushReach::kOnObsoleteRoots
                                : FlushReach::kEverybody);
  UnmakePage(vm, table, clearing, owed);
  flush_.TakeOver(owed);
  ++zapped_;
  if (page.root_count != 0) {
    ++vm.pinned_pages;
    // Of an obsolete one the bump has asked.
    if (!obsolete) root_zapped_ = true;
    return;
  }
  page.hash_next = unfreed_;
  unfreed_ = table;
}

void ZapBatch::Commit(Vm& vm) {
  if (root_zapped_) RequestAll(vm, request::kReloadRoot);
  root_zapped_ = false;
  flush_.Pay(vm);
  while (unfreed_ != TableIndex::kNil) {
    const TableIndex table = unfreed_;
    unfreed_ = vm.arena.Page(table).hash_next;
    vm.pages.Free(table);
  }
}

void FreeUnpinned(Vm& vm, TableIndex table) {
  SMMU_DCHECK_GT(vm.pinned_pages, 0u);
  --vm.pinned_pages;
  vm.pages.Free(table);
}

}  // namespace shadowmmu
