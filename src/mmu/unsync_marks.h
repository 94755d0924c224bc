// unsync_marks: which way leads down to the unsync pages. Kept exactly by
// whoever links, unlinks, and makes a page unsync or brings it in step, so that
// a vCPU that flushes finds its unsync pages without a search, and learns that
// it has none from one count of its root.
//
//  1. Rules 5 and 6 of shadow_page.h hold whenever structure_lock, or the MMU
//     lock held exclusively, is dropped.
//  2. A page that is unsync, or has marks, is never linked: it is brought in
//     step first (sync.h).
//
// Locking: the MMU lock held exclusively, or shared with structure_lock; none
// for PinnedPageOutOfStep. One lock for all marks, because they are set from a
// page upwards, and two tables may map each other.

#ifndef SHADOWMMU_MMU_UNSYNC_MARKS_H_
#define SHADOWMMU_MMU_UNSYNC_MARKS_H_

#include <bit>

#include "absl/base/thread_annotations.h"
#include "src/mmu/vm.h"

namespace shadowmmu {

// Whether the page is unsync, or leads to one that is.
inline bool OutOfStep(Vm& vm, TableIndex table)
    ABSL_SHARED_LOCKS_REQUIRED(vm.lock) {
  const ShadowPage& page = vm.arena.Page(table);
  return page.unsync || page.unsync_children != 0;
}

// The same of a page that the calling vCPU holds as (part of) its root: no lock
// needed, but in a LocklessWalk, or with the MMU lock. What another vCPU does
// at the same time may be missed, as a CPU that flushes just before a store may
// miss it.
bool PinnedPageOutOfStep(Vm& vm, TableIndex table);

// The page becomes unsync, or is in step again. Precondition: it was not so.
void SetUnsync(Vm& vm, TableIndex table) ABSL_SHARED_LOCKS_REQUIRED(vm.lock)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.structure_lock);
void ClearUnsync(Vm& vm, TableIndex table)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);

// The entry links nothing any more.
void ClearMark(Vm& vm, SpteRef ref) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);

// The first marked entry of a page, from `from` on; kEntriesPerTable: none.
inline unsigned NextMark(Vm& vm, TableIndex table, unsigned from)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  const UnsyncChildren& marks = vm.arena.UnsyncChildrenOf(table);
  for (unsigned i = from; i < kEntriesPerTable;) {
    const uint64_t rest = marks.word[i / 64] >> (i % 64);
    if (rest != 0) return i + static_cast<unsigned>(std::countr_zero(rest));
    i = (i / 64 + 1) * 64;
  }
  return kEntriesPerTable;
}

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_UNSYNC_MARKS_H_
