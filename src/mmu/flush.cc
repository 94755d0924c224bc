#include "src/mmu/flush.h"

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
  owed_ = false;
  vm.tlb_flushes.fetch_add(1, std::memory_order_relaxed);
  const VcpuSet in_guest = Request(vm, request::kFlushTlb);
  if (!in_guest.empty()) vm.host.FlushTlb(in_guest, FlushRange::All());
}

void RequestAll(Vm& vm, uint32_t requests) {
  const VcpuSet in_guest = Request(vm, requests);
  if (!in_guest.empty()) vm.host.Kick(in_guest);
}

}  // namespace shadowmmu
