// vmcb_state: the VMCB of a vCPU, from and to the registers that an emulator
// sees, and what makes the guest exit.
//
//  1. CR0, CR3, CR4 and EFER of the VMCB are never the guest's own: paging is
//     shadowed (paging.h). All other registers are.
//
// Thread safety: belongs to one vCPU.

#ifndef HYPERVISOR_VCPU_VMCB_STATE_H_
#define HYPERVISOR_VCPU_VMCB_STATE_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "emulate/cpu_state.h"
#include "svm/svm.h"
#include "svm/vmcb.h"

namespace hypervisor {

// The permission bitmaps that a VMCB points to (APM vol. 2, 15.10.1, 15.11). A
// bit that is set makes the access exit.
struct alignas(4096) PermissionMaps {
  static constexpr size_t kIoBytes = 3 * 4096;
  static constexpr size_t kMsrBytes = 2 * 4096;
  std::byte io[kIoBytes];
  std::byte msr[kMsrBytes];
};

// What exits: every port; every MSR but those that the VMCB, or nobody else,
// holds.
void SetPermissions(PermissionMaps& maps);

// A VMCB in which all is intercepted that the hypervisor must see.
void InitVmcb(Vmcb& vmcb, const PermissionMaps& maps);

// All registers but the four of rule 1, which the caller adds.
CpuState StateOf(const Vmcb& vmcb, const SvmRegisters& registers);
void SetState(const CpuState& state, Vmcb& vmcb, SvmRegisters& registers);

}  // namespace hypervisor

#endif  // HYPERVISOR_VCPU_VMCB_STATE_H_
