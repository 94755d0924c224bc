// Removals: leaves that leave their rmaps together. A part of spte_sweep, in a
// header so that benchmarks can try other distances (bench/micro, Sweep).
//
//  1. Add takes leaves whose entries are clear already; they are off their
//     rmaps, and off the counts, once Finish has returned.
//  2. Removing from a chain moves another entry into the hole: what a removal
//     will touch is looked up anew when its turn comes, never remembered.
//
// Locking: the MMU lock.

#ifndef SHADOWMMU_MMU_REMOVALS_H_
#define SHADOWMMU_MMU_REMOVALS_H_

#include <array>
#include <cstddef>
#include <span>

#include "absl/base/attributes.h"
#include "absl/base/thread_annotations.h"
#include "src/base/check.h"
#include "src/base/prefetch.h"
#include "src/mmu/spte_sweep.h"
#include "src/mmu/spte_write.h"

namespace shadowmmu {

// Clears an entry. By exchange: returns what it held.
template <Clearing clearing>
Spte Clear(std::atomic<uint64_t>& entry, Spte none) {
  if constexpr (clearing == Clearing::kExchange) {
    return Spte(entry.exchange(none.bits(), std::memory_order_acq_rel));
  } else {
    entry.store(none.bits(), std::memory_order_relaxed);
    return Spte();
  }
}

// Leaves whose entries are clear, and that are still on their rmaps: takes them
// off, some dozens at a time.
template <size_t kBatch = 32>
class Removals {
 public:
  // The caller holds the MMU lock.
  explicit Removals(Vm& vm) : vm_(vm) {}
  ~Removals() { SMMU_DCHECK_EQ(count_, 0u) << "not finished"; }
  Removals(const Removals&) = delete;
  Removals& operator=(const Removals&) = delete;

  ABSL_ATTRIBUTE_ALWAYS_INLINE void Add(SpteRef ref, PageRole role, Gfn gfn) {
    vm_.lock.AssertHeld();
    const Memslot* slot =
        vm_.slot_cache.Find(vm_.slot_table(), role.space(), gfn);
    SMMU_CHECK(slot != nullptr) << "an spte maps " << gfn << " of "
                                << role.space() << ", where there is no slot";
    const SlotList list =
        slot->rmaps->List(gfn, role.level(), vm_.generations.arena_epoch);
    SMMU_CHECK(list.head != nullptr) << "no chunk for " << gfn;
    Prefetch(list.head);
    removal_[count_] = {list, slot->rmaps.get(), gfn, ref, role.level()};
    if (++count_ == removal_.size()) Finish();
  }

  void Finish();

 private:
  struct Removal {
    SlotList list;
    SlotRmaps* rmaps;
    Gfn gfn;
    SpteRef ref;
    Level level;
  };

  Vm& vm_;
  std::array<Removal, kBatch> removal_;
  size_t count_ = 0;
};

// Singles at once; then, for those in chains, three passes, each of which finds
// in the cache what the one before asked for.
template <size_t kBatch>
void Removals<kBatch>::Finish() {
  vm_.lock.AssertHeld();
  size_t chained = 0;
  for (size_t i = 0; i < count_; ++i) {
    const Removal& removal = removal_[i];
    RmapHead& head = *removal.list.head;
    removal.rmaps->CountRemoved(removal.list, 1);
    if (head == RmapHead::Single(removal.ref)) {
      head = RmapHead();
    } else {
      vm_.lists.PrefetchDescriptors(head, removal.ref);
      removal_[chained++] = removal;
    }
  }
  for (size_t i = 0; i < chained; ++i) {
    vm_.lists.PrefetchMoved(*removal_[i].list.head);
  }
  for (size_t i = 0; i < chained; ++i) {
    const Removal& removal = removal_[i];
    vm_.lists.Remove(*removal.list.head, removal.ref,
                     removal.rmaps->Owner(removal.gfn, removal.level));
  }
  vm_.counters.sptes_zapped += count_;
  count_ = 0;
}

// DropRefs (spte_sweep.h), with distances of one's own: for each entry, it and
// its page's header are asked for kFar entries before, its gfn kNear before.
template <size_t kFar = 24, size_t kNear = 12, size_t kBatch = 32>
void DropRefsAhead(Vm& vm, std::span<const SpteRef> refs,
                   FlushObligation& flush)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  const Spte none = vm.format.NotPresent();
  Removals<kBatch> removals(vm);
  for (size_t i = 0; i < refs.size(); ++i) {
    if (i + kFar < refs.size()) {
      Prefetch(&vm.arena.Entry(refs[i + kFar]));
      Prefetch(&vm.arena.Page(refs[i + kFar].table()));
    }
    if (i + kNear < refs.size()) vm.arena.PrefetchGfn(refs[i + kNear]);
    const SpteRef ref = refs[i];
    ShadowPage& page = vm.arena.Page(ref.table());
    const Spte spte = vm.arena.Load(ref);
    if (!spte.present()) continue;
    if (!spte.leaf(page.role.level())) {
      DropEntry(vm, ref, flush);
      continue;
    }
    Clear<Clearing::kExchange>(vm.arena.Entry(ref), none);
    flush.Owe();
    --page.entries;
    removals.Add(ref, page.role, vm.arena.GfnOf(ref));
  }
  removals.Finish();
}

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_REMOVALS_H_
