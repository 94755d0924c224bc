// Walks over the rmaps of a slot that reach the entries of the sptes, and ask
// the cache for them ahead. A part of spte_sweep, in a header so that
// benchmarks can try other distances (bench/micro, Sweep).
//
// Locking: the MMU lock, shared or not.

#ifndef SHADOWMMU_MMU_RMAP_WALK_H_
#define SHADOWMMU_MMU_RMAP_WALK_H_

#include <atomic>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "src/base/prefetch.h"
#include "src/mmu/vm.h"

namespace shadowmmu {

// What a walk by gfn asks for ahead. Far: the spte of a single, or a chain's
// first descriptor. Near: the sptes that it names.
template <uint64_t kFarHeads = 16, uint64_t kNearHeads = 4>
class LookAhead {
 public:
  static constexpr uint64_t kFar = kFarHeads;
  static constexpr uint64_t kNear = kNearHeads;

  explicit LookAhead(Vm& vm) ABSL_SHARED_LOCKS_REQUIRED(vm.lock)
      : lists_(vm.lists), entries_(vm.arena.entries()) {}
  void Far(RmapHead head) const {
    if (head.chain()) {
      lists_.PrefetchFirst(head);
    } else if (!head.empty()) {
      Prefetch(&entries_[head.single()]);
    }
  }
  void Near(RmapHead head) const {
    if (head.chain()) lists_.ForEachInFirst(head, *this);
  }
  void operator()(SpteRef ref) const { Prefetch(&entries_[ref]); }

 private:
  const PteLists& lists_;
  const EntryView entries_;
};

// Calls visit(std::atomic<uint64_t>&) for the entry of each spte that maps any
// of `gfns`, under the locks of the lists: others may be adding to them.
template <typename Ahead, typename Visit>
void ForEachEntry(Vm& vm, SlotRmaps& rmaps, GfnRange gfns, Visit visit)
    ABSL_SHARED_LOCKS_REQUIRED(vm.lock) {
  const EntryView entries = vm.arena.entries();
  const Ahead ahead(vm);
  rmaps.ForEachLockedHead(
      gfns, vm.generations.arena_epoch,
      [&](RmapHead head, Gfn, Level) {
        vm.lock.AssertReaderHeld();
        vm.lists.ForEach(
            head, [&](SpteRef ref) { visit(entries[ref]); }, ahead);
      },
      ahead);
}

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_RMAP_WALK_H_
