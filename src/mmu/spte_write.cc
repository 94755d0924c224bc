#include "src/mmu/spte_write.h"

#include "absl/base/attributes.h"
#include "src/base/check.h"
#include "src/mmu/table_tracking.h"
#include "src/mmu/unsync_marks.h"

namespace shadowmmu {
namespace {

// The slot whose rmap a leaf sits on, which there is.
ABSL_ATTRIBUTE_ALWAYS_INLINE inline SlotRmaps& RmapsOf(Vm& vm, SlotCache& cache,
                                                       PageRole role, Gfn gfn)
    ABSL_SHARED_LOCKS_REQUIRED(vm.lock) {
  const Memslot* slot = cache.Find(vm.slot_table(), role.space(), gfn);
  SMMU_CHECK(slot != nullptr) << "an spte maps " << gfn << " of "
                              << role.space() << ", where there is no slot";
  return *slot->rmaps;
}

// Takes the leaf `ref` off its rmap. Its entry is clear already.
void Unmap(Vm& vm, SpteRef ref) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  const PageRole role = vm.arena.Page(ref.table()).role;
  const Gfn gfn = vm.arena.GfnOf(ref);
  SlotRmaps& rmaps = RmapsOf(vm, vm.slot_cache, role, gfn);
  const SlotList list =
      rmaps.List(gfn, role.level(), vm.generations.arena_epoch);
  SMMU_CHECK(list.head != nullptr)
      << "no chunk for " << gfn << " of " << role.space();
  vm.lists.Remove(*list.head, ref, rmaps.Owner(gfn, role.level()));
  rmaps.CountRemoved(list, 1);
  ++vm.counters.sptes_zapped;
}

// Takes the link `spte` at `ref` off its child's parent list.
void Unlink(Vm& vm, SpteRef ref, Spte spte)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  const TableIndex child = vm.arena.TableAt(vm.format.TableOf(spte));
  SMMU_CHECK(child != TableIndex::kNil) << ref << " points to no table of ours";
  vm.lists.Remove(vm.arena.Page(child).parents, ref, ParentOwner(child));
}

// Whether what is allowed by `before` may be used no more after it became
// `after`.
bool TakesAway(Spte before, Spte after) {
  // Memory type and protection key: neither value includes the other.
  constexpr uint64_t kOther =
      pte::kWriteThrough | pte::kCacheDisable | pte::kKey;
  return !after.rights().Includes(before.rights()) ||
         ((before.bits() ^ after.bits()) & kOther) != 0;
}

// Gives a present leaf other rights. Accessed and dirty bits that the CPU has
// set, or sets meanwhile, stay. False: rule 6.
bool ChangeInPlace(std::atomic<uint64_t>& entry, Spte spte, VmHold hold,
                   FlushObligation& flush) {
  constexpr uint64_t kKept = pte::kAccessed | pte::kDirty;
  uint64_t before = entry.load(std::memory_order_relaxed);
  bool takes_away = false;
  do {  // A fast fault may make it writable meanwhile.
    takes_away = TakesAway(Spte(before), spte);
    if (takes_away && hold == VmHold::kShared) return false;
  } while (!entry.compare_exchange_weak(before, spte.bits() | (before & kKept),
                                        std::memory_order_acq_rel));
  if (takes_away) flush.Owe();
  return true;
}

void DropOld(Vm& vm, SpteRef ref,
             FlushObligation& flush) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  vm.lock.AssertHeld();
  DropEntry(vm, ref, flush);
}

}  // namespace

SetResult SetLeaf(Vm& vm, Writer& writer, VmHold hold, SpteRef ref,
                  const NewLeaf& leaf, FlushObligation& flush) {
  ShadowPage& page = vm.arena.Page(ref.table());
  const Level level = page.role.level();
  std::atomic<uint64_t>& entry = vm.arena.Entry(ref);
  SMMU_CHECK_EQ(vm.format.ReservedBitsSet(leaf.spte, page.role), 0u);
  if (level != Level::k4K) vm.structure_lock.AssertHeld();
  SpinLockHolder page_held(&page.lock);
  const Spte old = vm.arena.Load(ref);
  const bool same =
      old.present() && old.leaf(level) && vm.arena.GfnOf(ref) == leaf.gfn &&
      vm.format.PfnOf(old, level) == vm.format.PfnOf(leaf.spte, level);
  if (old.present() && !same) {
    if (hold == VmHold::kShared) return SetResult::kNeedsExclusive;
    DropOld(vm, ref, flush);
  }
  SlotRmaps& rmaps = RmapsOf(vm, writer.slot_cache, page.role, leaf.gfn);
  const LockedList locked(rmaps, leaf.gfn, level, vm.generations.arena_epoch);
  SMMU_CHECK(locked.list().head != nullptr)
      << "no chunk for " << leaf.gfn << " of " << page.role.space();
  const bool tracked = leaf.spte.may_write() && level == Level::k4K &&
                       IsTracked(vm, writer.slot_cache, leaf.gfn);
  const Spte spte = tracked ? leaf.if_tracked : leaf.spte;
  const SetResult result = tracked ? SetResult::kSetTracked : SetResult::kSet;
  if (same) {
    if (!ChangeInPlace(entry, spte, hold, flush)) {
      return SetResult::kNeedsExclusive;
    }
    writer.sptes_set.Increment();
    return result;
  }
  vm.arena.SetGfn(ref, leaf.gfn);
  rmaps.CountAdded(locked.list());
  vm.lists.Add(*locked.list().head, ref, rmaps.Owner(leaf.gfn, level),
               writer.reserve);
  entry.store(spte.bits(), std::memory_order_release);
  ++page.entries;
  writer.sptes_set.Increment();
  return result;
}

bool LiftLogProtection(Vm& vm, SpteRef ref) {
  std::atomic<uint64_t>& entry = vm.arena.Entry(ref);
  uint64_t bits = entry.load(std::memory_order_acquire);
  while (Spte(bits).log_protected()) {
    // Fails for accessed and dirty bits that the CPU sets, too.
    if (entry.compare_exchange_weak(bits,
                                    Spte(bits).LogProtectionLifted().bits(),
                                    std::memory_order_acq_rel)) {
      return true;
    }
  }
  return Spte(bits).writable();  // another fault was first
}

void LinkTable(Vm& vm, Writer& writer, SpteRef ref, TableIndex child) {
  SMMU_CHECK(!vm.arena.Load(ref).present()) << ref << " is in use";
  SMMU_CHECK(!OutOfStep(vm, child)) << ref << " would link an unsync page";
  vm.lists.Add(vm.arena.Page(child).parents, ref, ParentOwner(child),
               writer.reserve);
  ShadowPage& page = vm.arena.Page(ref.table());
  const Spte link = vm.format.Table(vm.arena.HpaOf(child));
  SMMU_CHECK_EQ(vm.format.ReservedBitsSet(link, page.role), 0u);
  SpinLockHolder page_held(&page.lock);
  ++page.entries;
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
