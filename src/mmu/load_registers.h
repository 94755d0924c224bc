// load_registers: what a write of a guest's paging registers, or of the
// features of its CPU, does: checked first, PDPTEs and all; then the vCPU's
// mode, what its CPU must hold, and its root follow.
//
//  1. On an error nothing has changed.
//  2. PDPTEs are read from guest memory here, and nowhere else; in the vCPU's
//     address space.
//  3. Whatever is written, nothing that the guest's CPU would have flushed is
//     used any more (roots.h): of a write of CR3 what it says, else everything.
//
// Locking: takes the MMU lock; the vCPU's own thread, out of the guest.

#ifndef SHADOWMMU_MMU_LOAD_REGISTERS_H_
#define SHADOWMMU_MMU_LOAD_REGISTERS_H_

#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "shadowmmu/registers.h"
#include "src/mmu/vcpu_state.h"
#include "src/mmu/vm.h"

namespace shadowmmu {

// See VcpuMmu::SetRegisters.
absl::Status LoadRegisters(Vm& vm, VcpuState& vcpu,
                           const PagingRegisters& registers)
    ABSL_LOCKS_EXCLUDED(vm.lock);
// The same with these PDPTEs.
absl::Status LoadRegisters(Vm& vm, VcpuState& vcpu,
                           const PagingRegisters& registers,
                           const Pdptes& pdptes) ABSL_LOCKS_EXCLUDED(vm.lock);

// See VcpuMmu::WriteCr3. A kernel does it thousands of times a second: what
// does not depend on CR3 is left as it is.
absl::Status LoadCr3(Vm& vm, VcpuState& vcpu, uint64_t value)
    ABSL_LOCKS_EXCLUDED(vm.lock);

// See VcpuMmu::SetFeatures.
absl::Status LoadFeatures(Vm& vm, VcpuState& vcpu, const CpuFeatures& features)
    ABSL_LOCKS_EXCLUDED(vm.lock);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_LOAD_REGISTERS_H_
