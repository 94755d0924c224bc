#include "src/mmu/release.h"

#include <optional>

#include "src/base/backoff.h"
#include "src/mmu/flush.h"
#include "src/mmu/vcpu_state.h"

namespace shadowmmu {
namespace {

void AwaitOutside(Vm& vm, const VcpuState& vcpu)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  Backoff backoff;
  while (vcpu.mode.load(std::memory_order_seq_cst) != VcpuMode::kOutside) {
    backoff.Wait();
    if (const std::optional<uint64_t> waited = backoff.StallDue()) {
      vm.host.NoteStall({.waiting = "a release",
                         .for_whom = "a vCPU in the guest",
                         .vcpu = vcpu.id,
                         .milliseconds = *waited});
      vm.host.Kick(VcpuSet::Of(vcpu.id));
    }
  }
}

// When it returns no vCPU is in the guest, nor walks a root with no lock, and
// none will before the MMU lock is dropped.
void ForbidEntry(Vm& vm) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  RequestAll(vm, request::kReloadRoot);
  for (const VcpuState* vcpu : vm.vcpus) {
    if (vcpu != nullptr) AwaitOutside(vm, *vcpu);
  }
}

void ResetPages(Vm& vm) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  vm.pages.Reset(vm.generations.arena_epoch);
  vm.arena.Reset();
  vm.lists.Reset();
  for (VcpuState* vcpu : vm.vcpus) {
    if (vcpu != nullptr) vcpu->writer.reserve.Forget();
  }
  vm.pinned_pages = 0;
  vm.unsync_pages.store(0, std::memory_order_relaxed);
  for (std::atomic<uint64_t>& tables : vm.shadowed_tables) {
    tables.store(0, std::memory_order_relaxed);
  }
}

}  // namespace

void Release(Vm& vm) {
  WriterMutexLock held(&vm.lock);
  ForbidEntry(vm);
  ++vm.counters.releases;
  vm.counters.pages_released += vm.pages.active() + vm.pinned_pages;
  ++vm.generations.mmu_valid_gen;
  ++vm.generations.arena_epoch;
  ResetPages(vm);
}

}  // namespace shadowmmu
