#include "src/mmu/flush.h"

#include <utility>

#include "src/mmu/vcpu_state.h"

namespace shadowmmu {
namespace {

// Leaves the requests, and returns who is in the guest and may not have seen
// them.
VcpuSet Request(Vm& vm, uint32_t requests) ABSL_SHARED_LOCKS_REQUIRED(vm.lock) {
  vm.lock.AssertReaderHeld();
  VcpuSet in_guest;
  for (VcpuState* vcpu : vm.vcpus) {
    if (vcpu == nullptr) continue;
    vcpu->requests.fetch_or(requests, std::memory_order_seq_cst);
    if (vcpu->mode.load(std::memory_order_seq_cst) == VcpuMode::kInGuest) {
      in_guest.Add(vcpu->id);
    }
  }
  return in_guest;
}

}  // namespace

void FlushObligation::PayNow(Vm& vm) {
  const bool everybody =
      std::exchange(owed_, FlushReach::kNobody) == FlushReach::kEverybody;
  const VcpuSet in_guest =
      everybody ? Request(vm, request::kFlushTlb) : OnObsoleteRoots(vm);
  if (!everybody && in_guest.empty()) {
    vm.flushes_spared.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  vm.tlb_flushes.fetch_add(1, std::memory_order_relaxed);
  if (!in_guest.empty()) vm.host.FlushTlb(in_guest, FlushRange::All());
}

bool InGuestOnObsoleteRoot(const Vm& vm, const VcpuState& vcpu) {
  return vcpu.mode.load(std::memory_order_seq_cst) == VcpuMode::kInGuest &&
         vcpu.entered_generation.load(std::memory_order_acquire) !=
             vm.generations.mmu_valid_gen;
}

VcpuSet OnObsoleteRoots(const Vm& vm) {
  VcpuSet set;
  for (const VcpuState* vcpu : vm.vcpus) {
    if (vcpu != nullptr && InGuestOnObsoleteRoot(vm, *vcpu)) set.Add(vcpu->id);
  }
  return set;
}

void RequestAll(Vm& vm, uint32_t requests) {
  const VcpuSet in_guest = Request(vm, requests);
  if (!in_guest.empty()) vm.host.Kick(in_guest);
}

}  // namespace shadowmmu
