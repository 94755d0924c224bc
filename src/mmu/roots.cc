#include "src/mmu/roots.h"

#include <algorithm>
#include <array>
#include <thread>
#include <utility>

#include "src/base/check.h"
#include "src/mmu/flush.h"
#include "src/mmu/make_room.h"
#include "src/mmu/page_life.h"
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
    const Gfn gfn = mode.format.TableOf(mode.pdptes[i]);
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

// Points the walking CPU to the current root.
void PlaceRoot(Vm& vm, VcpuState& vcpu)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vcpu.roots_lock) {
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

// Of its own vCPU. Nobody else takes requests back: those that are there stay.
void Ask(VcpuState& vcpu, uint32_t requests) {
  const uint32_t there = vcpu.requests.load(std::memory_order_seq_cst);
  if ((there & requests) == requests) return;
  vcpu.requests.fetch_or(requests, std::memory_order_seq_cst);
}

// Nothing that was cached under the current root may be used any more: neither
// by the walking CPU, nor what the root leads to and is out of step.
void NoteRootFlushed(Vm& vm, VcpuState& vcpu) {
  uint32_t requests = request::kFlushTlb;
  vcpu.root.ForEachPage([&](TableIndex table) {
    if (RootOutOfStep(vm, table)) requests |= request::kSyncRoot;
  });
  Ask(vcpu, requests);
}

// Whether the guest has flushed what the current root leads to, and that is
// still out of step.
bool SyncIsDue(const VcpuState& vcpu) {
  return (vcpu.requests.load(std::memory_order_seq_cst) & request::kSyncRoot) !=
         0;
}

void MakeRoot(Vm& vm, VcpuState& vcpu, const RootPlan& plan)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  RootHandle root;
  root.pages = plan.pages;
  root.epoch = vm.generations.arena_epoch;
  FlushObligation flush;
  for (unsigned i = 0; i < plan.pages; ++i) {
    if (!plan.gfn[i]) continue;
    const TableIndex table =
        FindOrMakePage(vm, *plan.gfn[i], RoleOfRoot(vcpu, i), flush);
    ++vm.arena.Page(table).root_count;
    root.page[i] = table;
  }
  {
    SpinLockHolder held(&vcpu.roots_lock);
    vcpu.root = root;
    PlaceRoot(vm, vcpu);
  }
  // Its pages may be ones that others use, or used.
  NoteRootFlushed(vm, vcpu);
  flush.Pay(vm);
}

bool Usable(Vm& vm, const RootHandle& root)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  if (root.empty() || root.epoch != vm.generations.arena_epoch) return false;
  bool usable = true;
  root.ForEachPage([&](TableIndex table) {
    vm.lock.AssertHeld();
    const ShadowPage& page = vm.arena.Page(table);
    if (page.state != PageState::kActive ||
        page.mmu_valid_gen != vm.generations.mmu_valid_gen) {
      usable = false;
    }
  });
  return usable;
}

void Release(Vm& vm, const RootHandle& root)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
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

// Lets go of the previous roots for which `unwanted` holds.
template <typename Unwanted>
void DropPreviousIf(Vm& vm, VcpuState& vcpu, Unwanted unwanted)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  SpinLockHolder held(&vcpu.roots_lock);
  for (PreviousRoot& previous : vcpu.previous) {
    if (previous.root.empty() || !unwanted(previous.root)) continue;
    Release(vm, previous.root);
    previous = PreviousRoot();
  }
}

RootKey KeyOf(const VcpuState& vcpu) {
  const PagingMode& mode = vcpu.paging;
  return {.table = mode.root,
          .pcid = mode.pcid,
          .space = vcpu.space,
          .long_mode = mode.long_mode,
          .levels = mode.format.levels(),
          .rules = mode.rules,
          .pdptes = mode.pdptes};
}

// Whether a write of CR3 alone can lead from one to the other.
bool SameButForCr3(const RootKey& a, const RootKey& b) {
  RootKey moved = a;
  moved.table = b.table;
  moved.pcid = b.pcid;
  return moved == b;
}

// ---- What the guest has flushed ----

void NotePreviousFlushed(VcpuState& vcpu, std::optional<Pcid> pcid)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vcpu.roots_lock) {
  for (PreviousRoot& previous : vcpu.previous) {
    if (!pcid || previous.key.pcid == *pcid) previous.flushed = true;
  }
}

// After a switch, or none, to the current root.
void NoteFlush(Vm& vm, VcpuState& vcpu, GuestFlush flush)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vcpu.roots_lock) {
  if (flush == GuestFlush::kNone) return;
  NoteRootFlushed(vm, vcpu);
  NotePreviousFlushed(vcpu, flush == GuestFlush::kContext
                                ? std::optional(vcpu.root_key.pcid)
                                : std::nullopt);
}

// ---- Previous roots ----

// Takes the previous root of `key` out; an empty one if there is none.
PreviousRoot TakePrevious(VcpuState& vcpu, const RootKey& key)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vcpu.roots_lock) {
  for (PreviousRoot& previous : vcpu.previous) {
    if (!previous.root.empty() && previous.key == key) {
      return std::exchange(previous, PreviousRoot());
    }
  }
  return PreviousRoot();
}

// Puts `root` first among the `most` previous ones; the last falls out if none
// is empty, and is returned.
RootHandle KeepPrevious(VcpuState& vcpu, const PreviousRoot& root, size_t most)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vcpu.roots_lock) {
  if (root.root.empty() || most == 0) return root.root;
  size_t place = 0;
  while (place < most - 1 && !vcpu.previous[place].root.empty()) ++place;
  const RootHandle out = vcpu.previous[place].root;
  for (; place > 0; --place) vcpu.previous[place] = vcpu.previous[place - 1];
  vcpu.previous[0] = root;
  return out;
}

// Whether a switch to `key` leaves a place for the root that is left.
bool FitsPrevious(const VcpuState& vcpu, const RootKey& key, size_t most)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vcpu.roots_lock) {
  if (vcpu.root.empty()) return true;
  for (size_t i = 0; i < most; ++i) {
    const PreviousRoot& previous = vcpu.previous[i];
    if (previous.root.empty() || previous.key == key) return true;
  }
  return false;
}

// Makes the root of `key`, or none, the current one; returns what fell out of
// the previous ones.
RootHandle Exchange(Vm& vm, VcpuState& vcpu, const RootKey& key)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vcpu.roots_lock) {
  const PreviousRoot left{
      .key = vcpu.root_key, .root = vcpu.root, .flushed = SyncIsDue(vcpu)};
  const PreviousRoot next = TakePrevious(vcpu, key);
  vcpu.root_key = key;
  vcpu.root = next.root;
  // The walking CPU has cached what belongs to the root that is left.
  Ask(vcpu, request::kFlushTlb);
  if (next.root.empty() || next.flushed) NoteRootFlushed(vm, vcpu);
  if (!vcpu.root.empty()) {
    vcpu.root_cache_hits.Increment();
    PlaceRoot(vm, vcpu);
  }
  return KeepPrevious(vcpu, left, vm.config.previous_roots);
}

}  // namespace

bool RootUsable(Vm& vm, const VcpuState& vcpu) { return Usable(vm, vcpu.root); }

std::optional<FaultOutcome> LoadRoot(Vm& vm, VcpuState& vcpu) {
  {
    MutexLock held(&vm.lock);
    DropPreviousIf(vm, vcpu, [&vm](const RootHandle& root) {
      vm.lock.AssertHeld();
      return !Usable(vm, root);
    });
    if (RootUsable(vm, vcpu)) return std::nullopt;
  }
  const SlotReader reader(vm.slots);
  RootPlan plan;
  if (auto bad = PlanRoot(reader.table(), vcpu, &plan)) return bad;
  VmLock held(vm);
  ReleaseRoot(vm, vcpu);
  if (!MakeRoom(vm, held, NeedsOfFault(plan.pages))) {
    return FaultOutcome::NoMemory();
  }
  MakeRoot(vm, vcpu, plan);
  return std::nullopt;
}

void SwitchRoot(Vm& vm, VcpuState& vcpu, GuestFlush flush) {
  const RootKey key = KeyOf(vcpu);
  {
    SpinLockHolder held(&vcpu.roots_lock);
    if (key == vcpu.root_key) return NoteFlush(vm, vcpu, flush);
    vcpu.root_switches.Increment();
    if (FitsPrevious(vcpu, key, vm.config.previous_roots)) {
      Exchange(vm, vcpu, key);
      return NoteFlush(vm, vcpu, flush);
    }
  }
  // One falls out. It is let go of in the same hold of the lock: the audit
  // counts who holds a root.
  MutexLock held(&vm.lock);
  SpinLockHolder roots_held(&vcpu.roots_lock);
  Release(vm, Exchange(vm, vcpu, key));
  NoteFlush(vm, vcpu, flush);
}

void NoteFlushed(Vm& vm, VcpuState& vcpu, Pcid pcid) {
  if (vcpu.root_key.pcid == pcid) NoteRootFlushed(vm, vcpu);
  SpinLockHolder held(&vcpu.roots_lock);
  NotePreviousFlushed(vcpu, pcid);
}

void NoteAllFlushed(Vm& vm, VcpuState& vcpu) {
  NoteRootFlushed(vm, vcpu);
  SpinLockHolder held(&vcpu.roots_lock);
  NotePreviousFlushed(vcpu, std::nullopt);
}

void ForEachRootInReach(Vm& vm, const VcpuState& vcpu, std::optional<Pcid> pcid,
                        absl::FunctionRef<void(const RootHandle&)> visit) {
  const auto wanted = [&](const RootKey& key) {
    return !pcid || key.pcid == *pcid;
  };
  if (wanted(vcpu.root_key) && Usable(vm, vcpu.root)) visit(vcpu.root);
  if (!PcidsEnabled(vcpu.registers)) return;
  // They stay while the MMU lock is held.
  std::array<PreviousRoot, kMaxPreviousRoots> kept;
  {
    SpinLockHolder held(&vcpu.roots_lock);
    kept = vcpu.previous;
  }
  for (const PreviousRoot& previous : kept) {
    if (wanted(previous.key) && SameButForCr3(previous.key, vcpu.root_key) &&
        Usable(vm, previous.root)) {
      visit(previous.root);
    }
  }
}

void SyncRoot(Vm& vm, VcpuState& vcpu) {
  VmLock held(vm);
  FlushObligation flush;
  for (int breaks = 0; RootUsable(vm, vcpu); ++breaks) {
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
  Release(vm, vcpu.root);
  vcpu.root = RootHandle();
}

void DropPreviousRoots(Vm& vm, VcpuState& vcpu) {
  DropPreviousIf(vm, vcpu, [](const RootHandle&) { return true; });
}

void DropPreviousRoots(Vm& vm) {
  for (VcpuState* vcpu : vm.vcpus) {
    if (vcpu != nullptr) DropPreviousRoots(vm, *vcpu);
  }
}

bool IsCurrentRoot(Vm& vm, TableIndex table) {
  if (vm.arena.Page(table).root_count == 0) return false;
  for (const VcpuState* vcpu : vm.vcpus) {
    if (vcpu == nullptr) continue;
    SpinLockHolder held(&vcpu->roots_lock);
    // Its epoch need not be looked at: the count of the page is of this one.
    const auto& page = vcpu->root.page;
    if (std::find(page.begin(), page.end(), table) != page.end()) return true;
  }
  return false;
}

}  // namespace shadowmmu
