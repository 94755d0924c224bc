#include "src/mmu/spte_write.h"

#include "absl/base/attributes.h"
#include "src/base/check.h"
#include "src/mmu/unsync_marks.h"

namespace shadowmmu {
namespace {

// The list that a leaf sits on, and the key that it takes to change it.
struct LeafList {
  SlotRmaps& rmaps;
  RmapHead& head;
  OwnerTag owner;
};

ABSL_ATTRIBUTE_ALWAYS_INLINE inline LeafList ListOf(Vm& vm, PageRole role,
                                                    Gfn gfn)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  const Memslot* slot = vm.slot_cache.Find(vm.slot_table(), role.space(), gfn);
  SMMU_CHECK(slot != nullptr) << "an spte maps " << gfn << " of "
                              << role.space() << ", where there is no slot";
  RmapHead* head =
      slot->rmaps->Head(gfn, role.level(), vm.generations.arena_epoch);
  SMMU_CHECK(head != nullptr)
      << "no chunk for " << gfn << " of " << role.space();
  return {*slot->rmaps, *head, slot->rmaps->Owner(gfn, role.level())};
}

// Takes the leaf `ref` off its rmap. Its entry is clear already.
void Unmap(Vm& vm, SpteRef ref) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  const LeafList list =
      ListOf(vm, vm.arena.Page(ref.table()).role, vm.arena.GfnOf(ref));
  vm.lists.Remove(list.head, ref, list.owner);
  list.rmaps.CountRemoved(1);
  ++vm.counters.sptes_zapped;
}

// Takes the link `spte` at `ref` off its child's parent list.
void Unlink(Vm& vm, SpteRef ref, Spte spte)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  const TableIndex child = vm.arena.TableAt(vm.format.TableOf(spte));
  SMMU_CHECK(child != TableIndex::kNil) << ref << " points to no table of ours";
  vm.lists.Remove(vm.arena.Page(child).parents, ref, ParentOwner(child));
}

// Gives a present leaf other rights. Accessed and dirty bits that the CPU has
// set, or sets meanwhile, stay.
void ChangeInPlace(std::atomic<uint64_t>& entry, Spte spte,
                   FlushObligation& flush) {
  constexpr uint64_t kKept = pte::kAccessed | pte::kDirty;
  // Memory type and protection key: neither value includes the other.
  constexpr uint64_t kOther =
      pte::kWriteThrough | pte::kCacheDisable | pte::kKey;
  uint64_t before = entry.load(std::memory_order_relaxed);
  while (!entry.compare_exchange_weak(before, spte.bits() | (before & kKept),
                                      std::memory_order_acq_rel)) {
  }
  if (!spte.rights().Includes(Spte(before).rights()) ||
      ((before ^ spte.bits()) & kOther) != 0) {
    flush.Owe();
  }
}

}  // namespace

void SetLeaf(Vm& vm, SpteRef ref, Spte spte, Gfn gfn, FlushObligation& flush) {
  ShadowPage& page = vm.arena.Page(ref.table());
  const Level level = page.role.level();
  std::atomic<uint64_t>& entry = vm.arena.Entry(ref);
  const Spte old = vm.arena.Load(ref);
  SMMU_CHECK_EQ(vm.format.ReservedBitsSet(spte, page.role), 0u);
  ++vm.counters.sptes_set;
  if (old.present() && old.leaf(level) && vm.arena.GfnOf(ref) == gfn &&
      vm.format.PfnOf(old, level) == vm.format.PfnOf(spte, level)) {
    ChangeInPlace(entry, spte, flush);
    return;
  }
  if (old.present()) DropEntry(vm, ref, flush);
  vm.arena.SetGfn(ref, gfn);
  const LeafList list = ListOf(vm, page.role, gfn);
  list.rmaps.CountAdded(1);
  vm.lists.Add(list.head, ref, list.owner);
  ++page.entries;
  entry.store(spte.bits(), std::memory_order_release);
}

void LinkTable(Vm& vm, SpteRef ref, TableIndex child) {
  SMMU_CHECK(!vm.arena.Load(ref).present()) << ref << " is in use";
  SMMU_CHECK(!OutOfStep(vm, child)) << ref << " would link an unsync page";
  vm.lists.Add(vm.arena.Page(child).parents, ref, ParentOwner(child));
  ShadowPage& page = vm.arena.Page(ref.table());
  ++page.entries;
  const Spte link = vm.format.Table(vm.arena.HpaOf(child));
  SMMU_CHECK_EQ(vm.format.ReservedBitsSet(link, page.role), 0u);
  vm.arena.Entry(ref).store(link.bits(), std::memory_order_release);
}

void DropEntry(Vm& vm, SpteRef ref, FlushObligation& flush) {
  if (!vm.arena.Load(ref).present()) return;
  const Spte old(vm.arena.Entry(ref).exchange(vm.format.NotPresent().bits(),
                                              std::memory_order_acq_rel));
  ShadowPage& page = vm.arena.Page(ref.table());
  --page.entries;
  flush.Owe();
  if (old.leaf(page.role.level())) {
    Unmap(vm, ref);
  } else {
    ClearMark(vm, ref);
    Unlink(vm, ref, old);
  }
}

void DropParents(Vm& vm, TableIndex child, FlushObligation& flush) {
  const RmapHead& parents = vm.arena.Page(child).parents;
  while (!parents.empty()) {
    const SpteRef ref = vm.lists.Newest(parents);
    SMMU_CHECK(vm.arena.Load(ref).present())
        << ref << " is on a list and not present; " << vm.lists.Print(parents);
    DropEntry(vm, ref, flush);
  }
}

}  // namespace shadowmmu
