// slot_update: making, deleting, moving slots, and changing their flags.
//
// A slot goes in two steps. First it is published as INVALID: no translation
// through it succeeds any more, its rmaps are remove-only, and notifiers still
// find every spte on them. Then everything that was made from it is
// zapped (slot_zap.h), and the table without it is published; its rmaps are
// freed when the last spte is off them, and the last reader has left.
// Publishing waits for readers: a fault that saw the slot live is over, with
// what it mapped, before the invalidation begins.
//
// Flags change in one step; what they demand of the sptes is done after it,
// when no fault is left that saw the old ones: write-protecting, splitting and
// collapsing large pages (dirty_log.h, collapse.h).
//
//  1. Both tables are built before the first is published: a lack of memory
//     changes nothing.
//  2. No shadow page outlives a slot that it maps, or whose memory holds its
//     guest table: whatever way the slot goes takes all of them.
//
// Locking: takes the slots' update lock, and under it, in turn, waits for
// readers and takes the MMU lock.

#ifndef SHADOWMMU_MMU_SLOT_UPDATE_H_
#define SHADOWMMU_MMU_SLOT_UPDATE_H_

#include "absl/status/status.h"
#include "shadowmmu/memslot.h"
#include "shadowmmu/slot_zap.h"
#include "src/mmu/vm.h"

namespace shadowmmu {

// See Mmu::CreateSlot and so on.
absl::Status CreateSlot(Vm& vm, const SlotSpec& spec);
absl::Status DeleteSlot(Vm& vm, AddressSpace space, SlotId id,
                        SlotZapPolicy policy);
absl::Status MoveSlot(Vm& vm, AddressSpace space, SlotId id, Gfn new_base,
                      SlotZapPolicy policy);
absl::Status SetSlotFlags(Vm& vm, AddressSpace space, SlotId id,
                          SlotFlags flags);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_SLOT_UPDATE_H_
