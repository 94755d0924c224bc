// svm: the CPU's virtualisation extension, switched on, and one entry into a
// guest (APM vol. 2, 15.5, 15.16, 15.17).
//
//  1. Interrupts are off in the hypervisor. From SvmRun's entry into the guest
//     until it has left it, they are on for the CPU: one that comes makes the
//     guest exit, and its handler has run when SvmRun returns.
//  2. What VMRUN does not switch, SvmRun does: the general registers, the x87
//     and SSE state, and what VMLOAD and VMSAVE carry. PKRU and DR0 to DR3 stay
//     the guest's: the hypervisor has no user pages, and no breakpoints.
//
// Thread safety: each CPU has its own state of all this; a Vmcb is one vCPU's.

#ifndef HYPERVISOR_SVM_SVM_H_
#define HYPERVISOR_SVM_SVM_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "emulate/cpu_state.h"
#include "svm/vmcb.h"

namespace hypervisor {

// What SvmRun loads and saves beside the VMCB. `gpr` is in the order of the
// encoding; rax and rsp are in the VMCB, and their places here are not used.
struct alignas(64) SvmRegisters {
  uint64_t gpr[16];
  FxsaveImage fpu;
};
static_assert(offsetof(SvmRegisters, fpu) == 128);

// Switches SVM on for this CPU, and protection keys where it has them.
// Unimplemented: it has none, or the firmware has locked it.
absl::Status EnableSvm();

// Runs the guest of `vmcb` until it exits. Precondition: EnableSvm.
void SvmRun(Vmcb& vmcb, SvmRegisters& registers);

}  // namespace hypervisor

#endif  // HYPERVISOR_SVM_SVM_H_
