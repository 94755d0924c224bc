// How shadow pages begin and end: the part of the waist that keeps the hash,
// the write-tracking of guest tables, and the tables' entries in step.
//
//  1. While an indirect page is active, the guest table that it shadows is
//     tracked (table_tracking.h), but for the time that it is unsync (sync.h).
//  2. A page that is made is empty and of the current generation; nothing of
//     its parent's state is inherited but the role.
//  3. A page that is unmade has no entries and no parents, and no lookup finds
//     it.
//
// Locking: the MMU lock.

#ifndef SHADOWMMU_MMU_PAGE_LIFE_H_
#define SHADOWMMU_MMU_PAGE_LIFE_H_

#include "absl/base/thread_annotations.h"
#include "src/base/check.h"
#include "src/mmu/flush.h"
#include "src/mmu/spte_sweep.h"
#include "src/mmu/vm.h"

namespace shadowmmu {

// The current page of (gfn, role), made if there is none. Precondition: room
// for one (make_room.h), and for an indirect page a live slot that covers
// `gfn`, with write-track counts.
//
// If it was made, its guest table is write-protected when the flush is paid,
// and not before: what was read of the table earlier must be read again. If it
// was there and unsync, it is in step now; what it leads to need not be.
TableIndex FindOrMakePage(Vm& vm, Gfn gfn, PageRole role,
                          FlushObligation& flush)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);

// The same, linked under entry `ref` in the place of what is there, and in step
// with all that it leads to.
TableIndex LinkNewChild(Vm& vm, SpteRef ref, Gfn gfn, PageRole role,
                        FlushObligation& flush)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);
// The same, linked under entry `ref` of a current page. What is linked there
// stays only if it is that very page: same gfn, same role.
inline TableIndex EnsureChild(Vm& vm, SpteRef ref, Gfn gfn, PageRole role,
                              FlushObligation& flush)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  const Spte spte = vm.arena.Load(ref);
  if (spte.present() && !spte.large()) {
    const TableIndex child = vm.arena.TableAt(vm.format.TableOf(spte));
    const ShadowPage& page = vm.arena.Page(child);
    if (page.gfn == gfn && page.role == role) {
      // A page has children of its own generation only, and `ref` is in a
      // current one.
      SMMU_DCHECK_EQ(page.mmu_valid_gen, vm.generations.mmu_valid_gen);
      return child;
    }
  }
  return LinkNewChild(vm, ref, gfn, role, flush);
}

// Ends an active page: entries, parents, tracking, hash. The table may be freed
// once the flush is paid, and once it is no root.
void UnmakePage(Vm& vm, TableIndex table, Clearing clearing,
                FlushObligation& flush) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_PAGE_LIFE_H_
