#include "src/mmu/spte_sweep.h"

#include <array>

#include "absl/base/attributes.h"
#include "src/base/check.h"
#include "src/base/prefetch.h"
#include "src/mmu/spte_write.h"

namespace shadowmmu {
namespace {

// Clears an entry and returns what it held.
Spte Clear(std::atomic<uint64_t>& entry, Spte none, Clearing clearing) {
  if (clearing == Clearing::kExchange) {
    return Spte(entry.exchange(none.bits(), std::memory_order_acq_rel));
  }
  const Spte old(entry.load(std::memory_order_relaxed));
  entry.store(none.bits(), std::memory_order_relaxed);
  return old;
}

// Leaves whose entries are clear, and that are still on their rmaps: takes them
// off, some dozens at a time.
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
    RmapHead* head =
        slot->rmaps->Head(gfn, role.level(), vm_.generations.arena_epoch);
    SMMU_CHECK(head != nullptr) << "no chunk for " << gfn;
    Prefetch(head);
    removal_[count_] = {head, slot->rmaps.get(), gfn, ref, role.level()};
    if (++count_ == removal_.size()) Finish();
  }

  void Finish();

 private:
  struct Removal {
    RmapHead* head;
    SlotRmaps* rmaps;
    Gfn gfn;
    SpteRef ref;
    Level level;
  };

  Vm& vm_;
  std::array<Removal, 64> removal_;
  size_t count_ = 0;
};

// Singles at once; then, for those in chains, three passes, each of which finds
// in the cache what the one before asked for.
void Removals::Finish() {
  vm_.lock.AssertHeld();
  size_t chained = 0;
  for (size_t i = 0; i < count_; ++i) {
    const Removal& removal = removal_[i];
    removal.rmaps->CountRemoved(1);
    if (*removal.head == RmapHead::Single(removal.ref)) {
      *removal.head = RmapHead();
    } else {
      vm_.lists.PrefetchDescriptors(*removal.head, removal.ref);
      removal_[chained++] = removal;
    }
  }
  for (size_t i = 0; i < chained; ++i) {
    vm_.lists.PrefetchMoved(*removal_[i].head);
  }
  for (size_t i = 0; i < chained; ++i) {
    const Removal& removal = removal_[i];
    vm_.lists.Remove(*removal.head, removal.ref,
                     removal.rmaps->Owner(removal.gfn, removal.level));
  }
  vm_.counters.sptes_zapped += count_;
  count_ = 0;
}

// A direct page table maps 512 gfns in a row: all their heads are in one chunk,
// or in those of the few slots that share it.
void DropDirectLeaves(Vm& vm, TableIndex table, Clearing clearing)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  ShadowPage& page = vm.arena.Page(table);
  const Spte none = vm.format.NotPresent();
  const GfnRange gfns{page.gfn, kEntriesPerTable};
  SMMU_DCHECK(AlignDown(page.gfn, Level::k2M) == page.gfn);
  vm.slot_table().ForEachInGfnRange(
      page.role.space(), gfns, [&](const Memslot& slot, GfnRange part) {
        vm.lock.AssertHeld();
        SlotRmaps& rmaps = *slot.rmaps;
        RmapHead* heads =
            rmaps.Head(part.begin, Level::k4K, vm.generations.arena_epoch);
        if (heads == nullptr) return;
        const auto first = static_cast<unsigned>(part.begin - page.gfn);
        std::atomic<uint64_t>* const entries =
            &vm.arena.Entry(SpteRef(table, first));
        uint32_t dropped = 0;
        for (unsigned i = 0; i < part.pages; ++i) {
          const Spte old(entries[i].load(std::memory_order_relaxed));
          if (!old.present()) continue;
          Clear(entries[i], none, clearing);
          const SpteRef ref(table, first + i);
          vm.lists.Remove(heads[i], ref,
                          rmaps.Owner(part.begin + i, Level::k4K));
          ++dropped;
        }
        rmaps.CountRemoved(dropped);
        page.entries = static_cast<uint16_t>(page.entries - dropped);
        vm.counters.sptes_zapped += dropped;
      });
}

// What a walk by gfn asks for ahead. Far: the spte of a single, or a chain's
// first descriptor. Near: the sptes that it names.
class LookAhead {
 public:
  static constexpr uint64_t kFar = 24;
  static constexpr uint64_t kNear = 8;

  explicit LookAhead(Vm& vm) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock)
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
// of `gfns`.
template <typename Visit>
void ForEachEntry(Vm& vm, SlotRmaps& rmaps, GfnRange gfns, Visit visit)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  const EntryView entries = vm.arena.entries();
  const LookAhead ahead(vm);
  rmaps.ForEachHead(
      gfns, vm.generations.arena_epoch,
      [&](RmapHead head, Gfn, Level) {
        vm.lock.AssertHeld();
        vm.lists.ForEach(
            head, [&](SpteRef ref) { visit(entries[ref]); }, ahead);
      },
      ahead);
}

}  // namespace

void DropEntries(Vm& vm, TableIndex table, Clearing clearing,
                 FlushObligation& flush) {
  ShadowPage& page = vm.arena.Page(table);
  const PageRole role = page.role;
  if (page.entries == 0) return;
  flush.Owe();
  if (role.direct() && role.level() == Level::k4K) {
    DropDirectLeaves(vm, table, clearing);
  } else {
    const Spte none = vm.format.NotPresent();
    std::atomic<uint64_t>* const entries = &vm.arena.Entry(SpteRef(table, 0));
    Removals removals(vm);
    for (unsigned i = 0; i < kEntriesPerTable && page.entries != 0; ++i) {
      const Spte spte(entries[i].load(std::memory_order_relaxed));
      if (!spte.present()) continue;
      const SpteRef ref(table, i);
      if (!spte.leaf(role.level())) {
        DropEntry(vm, ref, flush);
        continue;
      }
      Clear(entries[i], none, clearing);
      --page.entries;
      removals.Add(ref, role, vm.arena.GfnOf(ref));
    }
    removals.Finish();
  }
  SMMU_CHECK_EQ(page.entries, 0u) << "more entries counted than there are";
}

void DropRefs(Vm& vm, std::span<const SpteRef> refs, FlushObligation& flush) {
  constexpr size_t kFar = 24;
  constexpr size_t kNear = 12;
  const Spte none = vm.format.NotPresent();
  Removals removals(vm);
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
    Clear(vm.arena.Entry(ref), none, Clearing::kExchange);
    flush.Owe();
    --page.entries;
    removals.Add(ref, page.role, vm.arena.GfnOf(ref));
  }
  removals.Finish();
}

void DropRange(Vm& vm, SlotRmaps& rmaps, GfnRange gfns,
               FlushObligation& flush) {
  const LookAhead ahead(vm);
  const Spte none = vm.format.NotPresent();
  rmaps.ForEachHead(
      gfns, vm.generations.arena_epoch,
      [&](RmapHead& head, Gfn gfn, Level level) {
        vm.lock.AssertHeld();
        uint64_t dropped = 0;
        vm.lists.ForEach(
            head,
            [&](SpteRef ref) {
              vm.lock.AssertHeld();
              const Spte old =
                  Clear(vm.arena.Entry(ref), none, Clearing::kExchange);
              SMMU_CHECK(old.present())
                  << ref << " is on a list and not present; "
                  << vm.lists.Print(head);
              --vm.arena.Page(ref.table()).entries;
              ++dropped;
            },
            ahead);
        vm.lists.Clear(head, rmaps.Owner(gfn, level));
        rmaps.CountRemoved(dropped);
        vm.counters.sptes_zapped += dropped;
        flush.Owe();
      },
      ahead);
}

void WriteProtectRange(Vm& vm, SlotRmaps& rmaps, GfnRange gfns,
                       FlushObligation& flush) {
  ForEachEntry(vm, rmaps, gfns, [&](std::atomic<uint64_t>& entry) {
    if (!Spte(entry.load(std::memory_order_relaxed)).writable()) return;
    entry.fetch_and(~pte::kWritable, std::memory_order_acq_rel);
    flush.Owe();
  });
}

bool ClearAccessedRange(Vm& vm, SlotRmaps& rmaps, GfnRange gfns) {
  bool young = false;
  ForEachEntry(vm, rmaps, gfns, [&](std::atomic<uint64_t>& entry) {
    if (!Spte(entry.load(std::memory_order_relaxed)).accessed()) return;
    entry.fetch_and(~pte::kAccessed, std::memory_order_relaxed);
    young = true;
  });
  return young;
}

bool TestAccessedRange(Vm& vm, SlotRmaps& rmaps, GfnRange gfns) {
  bool young = false;
  ForEachEntry(vm, rmaps, gfns, [&](std::atomic<uint64_t>& entry) {
    young |= Spte(entry.load(std::memory_order_relaxed)).accessed();
  });
  return young;
}

}  // namespace shadowmmu
