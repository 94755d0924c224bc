// THE WAIST: the only writer of sptes, with spte_sweep.h. Every function here
// changes an entry and keeps in step with it, as one: the rmap or parent list
// that the entry sits on, the stored gfn, the counts, and the flush that the
// change owes.
//
//  1. A present leaf sits on exactly one rmap: that of its gfn, at its level,
//     in the slot of its page's address space. The gfn that takes it off is the
//     one that put it on: stored beside the entry, never computed anew from
//     guest memory.
//  2. A present link to a table sits on that table's parent list.
//  3. Nothing is ever put on the rmap of a slot that is remove-only.
//  4. What is written has no bit set that the walking CPU reserves: it would
//     fault on it for ever.
//  5. Nothing here fails for want of memory: who adds has made room first
//     (make_room.h), and has the slot's chunk.
//  6. Under the MMU lock held shared, things are added, and rights given. Where
//     something must go first, the caller has to hold it exclusively.
//
// Locking: the MMU lock; what only adds does so under it held shared, too, and
// takes the locks of the page, and of the list, by itself, where it needs them.

#ifndef SHADOWMMU_MMU_SPTE_WRITE_H_
#define SHADOWMMU_MMU_SPTE_WRITE_H_

#include "absl/base/thread_annotations.h"
#include "src/mmu/flush.h"
#include "src/mmu/vm.h"
#include "src/mmu/writer.h"

namespace shadowmmu {

struct NewLeaf {
  Gfn gfn;
  Spte spte;
  // What is set in its place if it may write `gfn`, and that is tracked
  // (table_tracking.h). The same but for rights.
  Spte if_tracked;
};

enum class SetResult : uint8_t {
  kSet,
  kSetTracked,      // as `if_tracked` says
  kNeedsExclusive,  // rule 6; nothing was changed
};

// Makes entry `ref` a leaf. What was there before goes first; a leaf of the
// same gfn and pfn is changed in place. Of a large one: the caller holds
// structure_lock, and no shadowed table lies in it.
SetResult SetLeaf(Vm& vm, Writer& writer, VmHold hold, SpteRef ref,
                  const NewLeaf& leaf, FlushObligation& flush)
    ABSL_SHARED_LOCKS_REQUIRED(vm.lock);

// Makes a leaf writable that is log-protected. No lock of the page or the list:
// by compare-exchange. False: it is not so any more, and not writable.
bool LiftLogProtection(Vm& vm, SpteRef ref) ABSL_SHARED_LOCKS_REQUIRED(vm.lock);

// Makes entry `ref`, which is not present, point to `child`.
void LinkTable(Vm& vm, Writer& writer, SpteRef ref, TableIndex child)
    ABSL_SHARED_LOCKS_REQUIRED(vm.lock)
        ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.structure_lock);

// Clears entry `ref`, whatever it is: leaf, link, or not present.
void DropEntry(Vm& vm, SpteRef ref, FlushObligation& flush)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);

// Clears every entry that points to `child`.
void DropParents(Vm& vm, TableIndex child, FlushObligation& flush)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_SPTE_WRITE_H_
