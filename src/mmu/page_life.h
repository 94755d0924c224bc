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
//  4. Under the MMU lock held shared a page is made, and linked, but nothing
//  goes
//     for it, and nothing is synced: where that would have to be, the answer is
//     kNil, and the caller comes back alone.
//  5. A page that was made is in nobody's reach but its maker's until the flush
//     that its tracking owes is paid: structure_lock is held from before until
//     after. Who walks through it later reads the guest's table later.
//
// Locking: the MMU lock, and structure_lock where it says so.

#ifndef SHADOWMMU_MMU_PAGE_LIFE_H_
#define SHADOWMMU_MMU_PAGE_LIFE_H_

#include "absl/base/thread_annotations.h"
#include "src/base/check.h"
#include "src/mmu/flush.h"
#include "src/mmu/spte_sweep.h"
#include "src/mmu/vm.h"
#include "src/mmu/writer.h"

namespace shadowmmu {

// The current page of (gfn, role), made if there is none. Precondition, where
// the lock is held exclusively: room for one (make_room.h). For an indirect
// page: a live slot that covers `gfn`, with write-track counts.
//
// If it was made, its guest table is write-protected when the flush is paid,
// and not before: what was read of the table earlier must be read again. If it
// was there and unsync, it is in step now; what it leads to need not be.
TableIndex FindOrMakePage(Vm& vm, Writer& writer, VmHold hold, Gfn gfn,
                          PageRole role, FlushObligation& flush)
    ABSL_SHARED_LOCKS_REQUIRED(vm.lock)
        ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.structure_lock);

// The same, linked under entry `ref` in the place of what is there, and in step
// with all that it leads to. Takes structure_lock, and pays the flush.
TableIndex LinkChild(Vm& vm, Writer& writer, VmHold hold, SpteRef ref, Gfn gfn,
                     PageRole role, FlushObligation& flush)
    ABSL_SHARED_LOCKS_REQUIRED(vm.lock) ABSL_LOCKS_EXCLUDED(vm.structure_lock);

// The page that entry `ref` of a current page links, if it is that of (gfn,
// role); kNil if it is not.
inline TableIndex LinkedChild(Vm& vm, SpteRef ref, Gfn gfn, PageRole role)
    ABSL_SHARED_LOCKS_REQUIRED(vm.lock) {
  const Spte spte = vm.arena.Load(ref);
  if (!spte.present() || spte.large()) return TableIndex::kNil;
  const TableIndex child = vm.arena.TableAt(vm.format.TableOf(spte));
  const ShadowPage& page = vm.arena.Page(child);
  if (page.gfn != gfn || page.role != role) return TableIndex::kNil;
  // A page has children of its own generation only, and `ref` is in a current
  // one.
  SMMU_DCHECK_EQ(page.mmu_valid_gen, vm.generations.mmu_valid_gen);
  return child;
}

// The current page of (gfn, role), linked under entry `ref` of a current page.
// What is linked there stays only if it is that very page.
inline TableIndex EnsureChild(Vm& vm, Writer& writer, VmHold hold, SpteRef ref,
                              Gfn gfn, PageRole role, FlushObligation& flush)
    ABSL_SHARED_LOCKS_REQUIRED(vm.lock) ABSL_LOCKS_EXCLUDED(vm.structure_lock) {
  const TableIndex child = LinkedChild(vm, ref, gfn, role);
  if (child != TableIndex::kNil) return child;
  return LinkChild(vm, writer, hold, ref, gfn, role, flush);
}

// Ends an active page: entries, parents, tracking, hash. The table may be freed
// once the flush is paid, and once it is no root.
void UnmakePage(Vm& vm, TableIndex table, Clearing clearing,
                FlushObligation& flush) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_PAGE_LIFE_H_
