// dirty_log: which pages of a slot the guest has written since it was last
// asked, for a hypervisor that copies them while the guest runs.
//
//  1. No store is lost: the page of each is in what the next get returns, or in
//     what the one after it does if the store came later. Stores of CPUs are
//     caught because sptes are write-protected and only become writable with
//     their page marked (map.h); emulated ones, and the bits that walks set,
//     mark by themselves.
//  2. What maps a slot that logs is small: one bit, one page. Starting drops
//     its large sptes, and none is made (MaxMapLevel).
//  3. A get returns with the pages that it reports write-protected and
//     flushed: whoever copies them has every store that is not recorded anew.
//  4. Both walk in steps of kPagesBetweenBreaks, and let others in between them
//     with nothing half-done: what was taken is protected and flushed.
//
// Locking: the slots' update lock, so that the slot stays; takes the MMU lock.

#ifndef SHADOWMMU_MMU_DIRTY_LOG_H_
#define SHADOWMMU_MMU_DIRTY_LOG_H_

#include <cstdint>
#include <span>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "shadowmmu/memslot.h"
#include "src/mmu/vm.h"

namespace shadowmmu {

// Makes what maps the slot small and read-only. Precondition: the slot is
// published with its bitmap, and readers that saw it without are over.
void StartDirtyLog(Vm& vm, const Memslot& slot)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.slots.update_lock())
        ABSL_LOCKS_EXCLUDED(vm.lock);

// See Mmu::GetAndClearDirty.
absl::Status GetAndClearDirty(Vm& vm, AddressSpace space, SlotId id,
                              std::span<uint64_t> bitmap)
    ABSL_LOCKS_EXCLUDED(vm.slots.update_lock(), vm.lock);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_DIRTY_LOG_H_
