// slot_zap: takes away all that was made from a slot that is going, in the way
// that costs least.
//
//  1. When it returns no spte maps the slot, no shadow page has its guest table
//     there, and every CPU has flushed what it had of either, or will before it
//     enters the guest.
//  2. The targeted way finds the sptes on the slot's rmaps; the tables by the
//     counts of shadowed ones, and in the hash; the direct pages in the hash,
//     by the gfn that they begin with, which is rounded down to what they cover
//     and may lie before the slot. Of these it takes the empty ones only: what
//     maps a neighbour of the slot, too, stays.
//  3. It breaks the lock when others wait; whatever it took is flushed then.
//  4. What it costs is bounded by the chunks that were ever made for the slot,
//     not by its size.
//
// Locking: takes the MMU lock, exclusively. The caller holds the slots' update
// lock; the slot is INVALID and remove-only, and nobody maps it any more.

#ifndef SHADOWMMU_MMU_SLOT_ZAP_H_
#define SHADOWMMU_MMU_SLOT_ZAP_H_

#include "absl/base/thread_annotations.h"
#include "shadowmmu/slot_zap.h"
#include "src/mmu/vm.h"

namespace shadowmmu {

void ZapSlot(Vm& vm, const Memslot& slot, SlotZapPolicy policy)
    ABSL_LOCKS_EXCLUDED(vm.lock);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_SLOT_ZAP_H_
