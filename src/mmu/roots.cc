#include "src/mmu/roots.h"

#include <algorithm>
#include <array>
#include <thread>

#include "src/base/check.h"
#include "src/mmu/flush.h"
#include "src/mmu/inherit_links.h"
#include "src/mmu/make_room.h"
#include "src/mmu/page_life.h"
#include "src/mmu/previous_roots.h"
#include "src/mmu/sync.h"
#include "src/mmu/unsync_marks.h"
#include "src/mmu/zap.h"

namespace shadowmmu {
namespace {

// How often a sync of a root lets others in before it runs to its end.
constexpr int kMaxSyncBreaks = 64;

// Makes sure that a guest table which the root names can be shadowed: it lies
// in a live slot, and there are counts for it.
std::optional<FaultOutcome> PrepareTable(const SlotTable& slots,
                                         AddressSpace space, Gfn gfn) {
  const Memslot* slot = slots.Find(space, gfn);
  if (slot == nullptr) {
    return FaultOutcome::MemoryFault(ToGpa(gfn),
                                     MemoryFaultReason::kTableOutsideSlots);
  }
  if (!slot->live()) return FaultOutcome::Retry();
  if (!slot->rmaps->EnsureWriteTrack(gfn)) return FaultOutcome::NoMemory();
  return std::nullopt;
}

// What a root is to be made of: a guest table or, with paging off, the first
// gfn, for each page; nullopt where there is none.
struct RootPlan {
  unsigned pages = 0;
  std::array<std::optional<Gfn>, RootHandle::kMaxPages> gfn = {};
};

// With PAE paging a table outside the slots matters to the accesses that need
// it, and to no other.
std::optional<FaultOutcome> PlanPdptes(const SlotTable& slots,
                                       const VcpuState& vcpu, RootPlan* plan) {
  const PagingMode& mode = vcpu.paging;
  for (unsigned i = 0; i < RootHandle::kMaxPages; ++i) {
    if ((mode.pdptes[i] & pte::kPresent) == 0) continue;
    const Gfn gfn = GuestFormat::GfnOf(mode.pdptes[i]);
    const auto bad = PrepareTable(slots, vcpu.space, gfn);
    if (!bad) {
      plan->gfn[i] = gfn;
    } else if (bad->kind != FaultOutcome::Kind::kMemoryFault) {
      return bad;
    }
  }
  return std::nullopt;
}

std::optional<FaultOutcome> PlanRoot(const SlotTable& slots,
                                     const VcpuState& vcpu, RootPlan* plan) {
  const PagingMode& mode = vcpu.paging;
  plan->pages = UsesPaeRoot(mode) ? RootHandle::kMaxPages : 1;
  if (mode.UsesPdptes()) return PlanPdptes(slots, vcpu, plan);
  for (unsigned i = 0; i < plan->pages; ++i) {
    plan->gfn[i] =
        mode.format.off() ? Gfn(i * PagesPerEntry(Level::k1G)) : mode.root;
  }
  if (mode.format.off()) return std::nullopt;
  return PrepareTable(slots, vcpu.space, mode.root);
}

PageRole RoleOfRoot(const VcpuState& vcpu, unsigned i) {
  const PagingMode& mode = vcpu.paging;
  const bool off = mode.format.off();
  const unsigned quadrant = mode.rules.layout() == EntryLayout::k32Bit ? i : 0;
  return PageRole(off ? Level::k2M : mode.format.root_level(), vcpu.space,
                  off ? PageKind::kDirect : PageKind::kIndirect, Rights::All(),
                  mode.rules, quadrant);
}

// Where a table is does not change.
Hpa AddressOf(Vm& vm, TableIndex table) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  return vm.arena.HpaOf(table);
}

// What stands in a PAE root for the page directory `table`, or for none.
Spte PaeRootEntry(Vm& vm, TableIndex table) {
  if (table == TableIndex::kNil) return Spte();
  const Spte entry = vm.format.PaeRoot(AddressOf(vm, table));
  SMMU_CHECK_EQ(vm.format.ReservedBitsSetInRoot(entry), 0u);
  return entry;
}

// The root that the vCPU left last, if one is kept.
RootHandle LastRoot(Vm& vm, VcpuState& vcpu)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  RootHandle last;
  {
    SpinLockHolder held(&vcpu.roots_lock);
    last = vcpu.previous[0].root;
  }
  return RootUsable(vm, last) ? last : RootHandle();
}

// The pages of `root` that are new inherit links from those of `from`.
void InheritFrom(Vm& vm, VcpuState& vcpu, const RootHandle& from,
                 const RootHandle& root)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock, vm.structure_lock) {
  uint32_t room = kMaxInherited;
  for (unsigned i = 0; i < std::min(from.pages, root.pages); ++i) {
    const bool both =
        from.page[i] != TableIndex::kNil && root.page[i] != TableIndex::kNil;
    if (!both || vm.arena.Page(root.page[i]).entries != 0) continue;
    room -= InheritLinks(vm, vcpu.writer, vcpu.paging.format, from.page[i],
                         root.page[i], room);
  }
}

// See PinnedPageOutOfStep.
bool RootOutOfStep(Vm& vm, const RootHandle& root) {
  bool out_of_step = false;
  root.ForEachPage(
      [&](TableIndex table) { out_of_step |= PinnedPageOutOfStep(vm, table); });
  return out_of_step;
}

void MakeRoot(Vm& vm, VcpuState& vcpu, const RootPlan& plan,
              const RootHandle& heir_of)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  RootHandle root;
  root.pages = plan.pages;
  root.epoch = vm.generations.arena_epoch;
  root.mmu_valid_gen = vm.generations.mmu_valid_gen;
  FlushObligation flush;
  MutexLock structure(&vm.structure_lock);
  for (unsigned i = 0; i < plan.pages; ++i) {
    if (!plan.gfn[i]) continue;
    const TableIndex table =
        FindOrMakePage(vm, vcpu.writer, VmHold::kExclusive, *plan.gfn[i],
                       RoleOfRoot(vcpu, i), flush);
    ++vm.arena.Page(table).root_count;
    root.page[i] = table;
  }
  {
    SpinLockHolder held(&vcpu.roots_lock);
    vcpu.root = root;
    PlaceRoot(vm, vcpu);
  }
  // Its pages may be ones that others use, or used.
  vcpu.Ask(request::kFlushTlb);
  if (RootOutOfStep(vm, root)) vcpu.Ask(request::kSyncRoot);
  flush.Pay(vm);
  InheritFrom(vm, vcpu, heir_of, root);
}

// Whether there is nothing to be done: mostly so for who starts over, and for
// who has loaded a root in a fault and enters.
bool AllRootsUsable(Vm& vm, VcpuState& vcpu) ABSL_LOCKS_EXCLUDED(vm.lock) {
  const SharedVmLock held(vm, ToInt(vcpu.id));
  if (!RootUsable(vm, vcpu.root)) return false;
  SpinLockHolder roots_held(&vcpu.roots_lock);
  return std::all_of(vcpu.previous.begin(), vcpu.previous.end(),
                     [&vm](const PreviousRoot& previous) {
                       vm.lock.AssertReaderHeld();
                       return previous.root.empty() ||
                              RootUsable(vm, previous.root);
                     });
}

}  // namespace

bool RootUsable(Vm& vm, const RootHandle& root) {
  if (root.empty() || root.epoch != vm.generations.arena_epoch ||
      root.mmu_valid_gen != vm.generations.mmu_valid_gen) {
    return false;
  }
  bool active = true;
  root.ForEachPage([&](TableIndex table) {
    vm.lock.AssertReaderHeld();
    active &= vm.arena.Page(table).state == PageState::kActive;
  });
  return active;
}

void LetGo(Vm& vm, const RootHandle& root) {
  if (root.epoch != vm.generations.arena_epoch) return;
  root.ForEachPage([&](TableIndex table) {
    vm.lock.AssertHeld();
    ShadowPage& page = vm.arena.Page(table);
    SMMU_CHECK_GT(page.root_count, 0u);
    if (--page.root_count == 0 && page.state == PageState::kZapped) {
      FreeUnpinned(vm, table);
    }
  });
}

void PlaceRoot(Vm& vm, VcpuState& vcpu) {
  const RootHandle& root = vcpu.root;
  if (!UsesPaeRoot(vcpu.paging)) {
    vcpu.hardware.root = AddressOf(vm, root.page[0]);
    return;
  }
  for (unsigned i = 0; i < root.pages; ++i) {
    vcpu.pae_entries[i].store(PaeRootEntry(vm, root.page[i]).bits(),
                              std::memory_order_release);
  }
  vcpu.hardware.root = vcpu.pae_root;
}

// Where the root is going, who serves the requests finds out what is to be
// synced of the new one.
void NoteRootFlushed(Vm& vm, VcpuState& vcpu) {
  const LocklessWalk walk(vcpu);
  const bool syncs = !walk.allowed() || RootOutOfStep(vm, vcpu.root);
  vcpu.Ask(request::kFlushTlb | (syncs ? request::kSyncRoot : 0));
}

std::optional<FaultOutcome> LoadRoot(Vm& vm, VcpuState& vcpu) {
  const SlotReader reader(vm.slots,
                          {.what = "a new root", .vcpu = ToInt(vcpu.id)});
  if (AllRootsUsable(vm, vcpu)) return std::nullopt;
  RootPlan plan;
  const std::optional<FaultOutcome> bad = PlanRoot(reader.table(), vcpu, &plan);
  VmLock held(vm);
  DropUnusablePreviousRoots(vm, vcpu);
  if (RootUsable(vm, vcpu.root)) return std::nullopt;
  if (bad) return bad;
  ReleaseRoot(vm, vcpu);
  // That there is no room to inherit is no reason to fail.
  const bool inherits = vm.config.prefetch != 0 && !vcpu.paging.format.off() &&
                        MakeRoom(vm, held, vcpu.writer.reserve,
                                 NeedsOfFault(plan.pages, kMaxInherited));
  if (!inherits &&
      !MakeRoom(vm, held, vcpu.writer.reserve, NeedsOfFault(plan.pages))) {
    return FaultOutcome::NoMemory();
  }
  MakeRoot(vm, vcpu, plan, inherits ? LastRoot(vm, vcpu) : RootHandle());
  return std::nullopt;
}

void SyncRoot(Vm& vm, VcpuState& vcpu) {
  VmLock held(vm);
  FlushObligation flush;
  for (int breaks = 0; RootUsable(vm, vcpu.root); ++breaks) {
    bool more = false;
    vcpu.root.ForEachPage([&](TableIndex table) {
      vm.lock.AssertHeld();
      more |= SyncSomeBelow(vm, table, flush);
    });
    flush.Pay(vm);
    if (!more) return;
    // Others may make as many unsync as are synced here: not for ever.
    if (breaks < kMaxSyncBreaks && vm.lock.Contended()) {
      ++vm.counters.lock_breaks;
      held.Break([] { std::this_thread::yield(); });
    }
  }
}

void ReleaseRoot(Vm& vm, VcpuState& vcpu) {
  SpinLockHolder held(&vcpu.roots_lock);
  LetGo(vm, vcpu.root);
  vcpu.root = RootHandle();
}

bool IsCurrentRoot(Vm& vm, TableIndex table) {
  if (vm.arena.Page(table).root_count == 0) return false;
  for (const VcpuState* vcpu : vm.vcpus) {
    if (vcpu == nullptr) continue;
    SpinLockHolder held(&vcpu->roots_lock);
    if (vcpu->root.epoch != vm.generations.arena_epoch) continue;
    const auto& page = vcpu->root.page;
    if (std::find(page.begin(), page.end(), table) != page.end()) return true;
  }
  return false;
}

}  // namespace shadowmmu
