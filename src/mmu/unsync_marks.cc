#include "src/mmu/unsync_marks.h"

#include <atomic>

#include "src/base/check.h"

namespace shadowmmu {
namespace {

uint64_t BitOf(SpteRef ref) { return uint64_t{1} << (ref.index() % 64); }

uint64_t& WordOf(Vm& vm, SpteRef ref) ABSL_SHARED_LOCKS_REQUIRED(vm.lock) {
  return vm.arena.UnsyncChildrenOf(ref.table()).word[ref.index() / 64];
}

void SetCount(ShadowPage& page, unsigned count) {
  std::atomic_ref<uint16_t>(page.unsync_children)
      .store(static_cast<uint16_t>(count), std::memory_order_release);
}

// Marks every entry that links `child`, and where that is a page's first mark,
// those that link that page. Recursion: at most once a level.
void MarkParents(Vm& vm, TableIndex child) ABSL_SHARED_LOCKS_REQUIRED(vm.lock)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.structure_lock) {
  vm.lists.ForEach(vm.arena.Page(child).parents, [&](SpteRef ref) {
    vm.lock.AssertReaderHeld();
    vm.structure_lock.AssertHeld();
    uint64_t& word = WordOf(vm, ref);
    if ((word & BitOf(ref)) != 0) return;
    word |= BitOf(ref);
    ShadowPage& parent = vm.arena.Page(ref.table());
    SetCount(parent, parent.unsync_children + 1u);
    if (parent.unsync_children == 1) MarkParents(vm, ref.table());
  });
}

void UnmarkParents(Vm& vm, TableIndex child)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  vm.lists.ForEach(vm.arena.Page(child).parents, [&](SpteRef ref) {
    vm.lock.AssertHeld();
    ClearMark(vm, ref);
  });
}

}  // namespace

bool PinnedPageOutOfStep(Vm& vm,
                         TableIndex table) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  return std::atomic_ref<uint16_t>(vm.arena.Page(table).unsync_children)
             .load(std::memory_order_acquire) != 0;
}

void SetUnsync(Vm& vm, TableIndex table) {
  ShadowPage& page = vm.arena.Page(table);
  SMMU_CHECK(!page.unsync && !page.role.direct() &&
             page.role.level() == Level::k4K)
      << "a page (" << page.role << ") cannot become unsync";
  page.unsync.store(true, std::memory_order_release);
  vm.unsync_pages.fetch_add(1, std::memory_order_relaxed);
  MarkParents(vm, table);
}

void ClearUnsync(Vm& vm, TableIndex table) {
  ShadowPage& page = vm.arena.Page(table);
  SMMU_CHECK(page.unsync) << "a page that is in step already";
  page.unsync.store(false, std::memory_order_release);
  vm.unsync_pages.fetch_sub(1, std::memory_order_relaxed);
  UnmarkParents(vm, table);
}

void ClearMark(Vm& vm, SpteRef ref) {
  ShadowPage& parent = vm.arena.Page(ref.table());
  if (parent.unsync_children == 0) return;
  uint64_t& word = WordOf(vm, ref);
  if ((word & BitOf(ref)) == 0) return;
  word &= ~BitOf(ref);
  SetCount(parent, parent.unsync_children - 1u);
  if (parent.unsync_children == 0) UnmarkParents(vm, ref.table());
}

}  // namespace shadowmmu
