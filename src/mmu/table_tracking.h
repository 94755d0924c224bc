// table_tracking: which gfns hold guest tables that are shadowed, and that the
// guest cannot write them unseen. A part of the waist.
//
//  1. A gfn is tracked while a page that shadows it is not unsync, in any
//     address space; then no spte of any address space can write it, once the
//     flush that TrackTable owes is paid.
//  2. No large page is mapped over a gfn that is shadowed, tracked or not: it
//     would go and come back with each sync.
//  3. Two may meet, one that begins to track a gfn, and one that makes an spte
//     which can write it. The first raises the count, and then takes the right
//     to write away under the lock of each list of the gfn; the second looks at
//     the counts, of every address space, under the lock of the list that it
//     adds to. So either the first finds the spte, or the second the count. (If
//     the first does not see a slot that the second maps, it looked at the
//     slots before they changed, and had raised the count by then: hence
//     seq_cst.)
//
// Locking: the MMU lock, and structure_lock where it says so.

#ifndef SHADOWMMU_MMU_TABLE_TRACKING_H_
#define SHADOWMMU_MMU_TABLE_TRACKING_H_

#include "absl/base/thread_annotations.h"
#include "src/mmu/flush.h"
#include "src/mmu/vm.h"

namespace shadowmmu {

// A page begins, or ends, to shadow its guest table; it is indirect. What was
// read of the table before the flush is paid must be read again.
void TrackTable(Vm& vm, TableIndex table, FlushObligation& flush)
    ABSL_SHARED_LOCKS_REQUIRED(vm.lock)
        ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.structure_lock);
void UntrackTable(Vm& vm, TableIndex table)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);
// The end of one that is unsync, and so does not track.
void ForgetTable(Vm& vm, TableIndex table)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);

// The same for a page that goes on shadowing, and becomes unsync, or is no
// longer.
void LoosenTable(Vm& vm, TableIndex table) ABSL_SHARED_LOCKS_REQUIRED(vm.lock)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.structure_lock);
void TightenTable(Vm& vm, TableIndex table, FlushObligation& flush)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);

bool IsTrackedSlow(Vm& vm, SlotCache& cache, Gfn gfn)
    ABSL_SHARED_LOCKS_REQUIRED(vm.lock);

// Whether `gfn` is tracked. `cache` is the caller's own.
inline bool IsTracked(Vm& vm, SlotCache& cache, Gfn gfn)
    ABSL_SHARED_LOCKS_REQUIRED(vm.lock) {
  static_assert(kAddressSpaces == 2);
  const bool any = (vm.shadowed_tables[0].load(std::memory_order_seq_cst) |
                    vm.shadowed_tables[1].load(std::memory_order_seq_cst)) != 0;
  return any && IsTrackedSlow(vm, cache, gfn);
}

// Whether a shadowed guest table lies in what a large entry of `level` maps
// from `gfn` on, in any address space. Precondition: gfn aligned to level,
// which is above k4K.
bool AnyTableShadowedIn(Vm& vm, Gfn gfn, Level level)
    ABSL_SHARED_LOCKS_REQUIRED(vm.lock);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_TABLE_TRACKING_H_
