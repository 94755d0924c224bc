#include "src/mmu/previous_roots.h"

#include <array>
#include <utility>

#include "src/mmu/roots.h"

namespace shadowmmu {
namespace {

// Lets go of the previous roots for which `unwanted` holds.
template <typename Unwanted>
void DropPreviousIf(Vm& vm, VcpuState& vcpu, Unwanted unwanted)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  SpinLockHolder held(&vcpu.roots_lock);
  for (PreviousRoot& previous : vcpu.previous) {
    if (previous.root.empty() || !unwanted(previous.root)) continue;
    LetGo(vm, previous.root);
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

// Whether the guest has flushed what the current root leads to, and that is
// still out of step.
bool SyncIsDue(const VcpuState& vcpu) {
  return (vcpu.requests.load(std::memory_order_seq_cst) & request::kSyncRoot) !=
         0;
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
  vcpu.Ask(request::kFlushTlb);
  if (next.root.empty() || next.flushed) NoteRootFlushed(vm, vcpu);
  if (!vcpu.root.empty()) {
    vcpu.root_cache_hits.Increment();
    PlaceRoot(vm, vcpu);
  }
  return KeepPrevious(vcpu, left, vm.config.previous_roots);
}

}  // namespace

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
  WriterMutexLock held(&vm.lock);
  SpinLockHolder roots_held(&vcpu.roots_lock);
  LetGo(vm, Exchange(vm, vcpu, key));
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
  if (wanted(vcpu.root_key) && RootUsable(vm, vcpu.root)) visit(vcpu.root);
  if (!PcidsEnabled(vcpu.registers)) return;
  // They stay while the MMU lock is held.
  std::array<PreviousRoot, kMaxPreviousRoots> kept;
  {
    SpinLockHolder held(&vcpu.roots_lock);
    kept = vcpu.previous;
  }
  for (const PreviousRoot& previous : kept) {
    if (wanted(previous.key) && SameButForCr3(previous.key, vcpu.root_key) &&
        RootUsable(vm, previous.root)) {
      visit(previous.root);
    }
  }
}

void DropPreviousRoots(Vm& vm, VcpuState& vcpu) {
  DropPreviousIf(vm, vcpu, [](const RootHandle&) { return true; });
}

void DropPreviousRoots(Vm& vm) {
  for (VcpuState* vcpu : vm.vcpus) {
    if (vcpu != nullptr) DropPreviousRoots(vm, *vcpu);
  }
}

void DropUnusablePreviousRoots(Vm& vm, VcpuState& vcpu) {
  DropPreviousIf(vm, vcpu, [&vm](const RootHandle& root) {
    vm.lock.AssertHeld();
    return !RootUsable(vm, root);
  });
}

}  // namespace shadowmmu
