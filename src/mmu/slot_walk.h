// Walks over the gfns of a slot that let others in on the way.
//
//  1. At most kPagesBetweenBreaks are walked in one hold of the MMU lock while
//     others wait for it.
//  2. Whenever it is dropped the flush is paid: what was done is done.
//
// Locking: takes the MMU lock, exclusively. The slot stays: the caller holds
// the slots' update lock.

#ifndef SHADOWMMU_MMU_SLOT_WALK_H_
#define SHADOWMMU_MMU_SLOT_WALK_H_

#include <algorithm>
#include <cstdint>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "src/memslot/dirty_bitmap.h"
#include "src/mmu/flush.h"
#include "src/mmu/vm.h"

namespace shadowmmu {

// Whole words of a dirty bitmap.
inline constexpr uint64_t kPagesBetweenBreaks = 1024;
static_assert(kPagesBetweenBreaks % DirtyBitmap::kPagesPerWord == 0);

// Calls step(first, pages, flush) for `pages` pages, in steps, under the lock.
template <typename Step>
void ForEachStep(Vm& vm, uint64_t pages, Step step)
    ABSL_LOCKS_EXCLUDED(vm.lock) {
  VmLock held(vm);
  FlushObligation flush;
  for (uint64_t first = 0; first < pages; first += kPagesBetweenBreaks) {
    step(first, std::min(kPagesBetweenBreaks, pages - first), flush);
    if (first + kPagesBetweenBreaks >= pages || !vm.lock.Contended()) continue;
    flush.Pay(vm);
    ++vm.counters.lock_breaks;
    held.Break([] { std::this_thread::yield(); });
  }
  flush.Pay(vm);
}

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_SLOT_WALK_H_
