// collapse: what was mapped in 4K pages while a slot logged makes room for
// large pages.
//
//  1. Only what stands in the way goes: direct page tables, which are there
//     because the guest's page is large. Of a guest page of 4K nothing can be
//     large, and nothing is touched.
//  2. Only where a large page may come: the slot covers all 2 MiB, the host
//     address is as aligned as the gfn, no shadowed guest table lies inside,
//     and what the table maps is one aligned run of host memory. Whether the
//     host's own page is large shows when the next fault asks; if it is not,
//     the 2 MiB are mapped in 4K again.
//  3. The next fault maps large: the mapper puts a large leaf where it may, in
//     the place of whatever link is there (Mapper::Run).
//
// Locking: takes the MMU lock, with lock breaks.

#ifndef SHADOWMMU_MMU_COLLAPSE_H_
#define SHADOWMMU_MMU_COLLAPSE_H_

#include "absl/base/thread_annotations.h"
#include "src/mmu/vm.h"

namespace shadowmmu {

// Precondition: the slot does not log any more, and readers that saw it log
// are over.
void CollapseSlot(Vm& vm, const Memslot& slot)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.slots.update_lock())
        ABSL_LOCKS_EXCLUDED(vm.lock);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_COLLAPSE_H_
