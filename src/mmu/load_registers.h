// load_registers: what a write of a guest's paging registers, or of the
// features of its CPU, does: checked first, PDPTEs and all; then the vCPU's
// mode, what its CPU must hold, and its root follow.
//
//  1. On an error nothing has changed.
//  2. PDPTEs are read from guest memory here, and nowhere else; in the vCPU's
//     address space.
//
// Locking: takes the MMU lock; the vCPU's own thread, out of the guest.

#ifndef SHADOWMMU_MMU_LOAD_REGISTERS_H_
#define SHADOWMMU_MMU_LOAD_REGISTERS_H_

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "shadowmmu/registers.h"
#include "src/mmu/vcpu_state.h"
#include "src/mmu/vm.h"

namespace shadowmmu {

// Where PDPTEs come from, with PAE paging.
enum class PdpteLoad : uint8_t {
  kAsTheCpu,    // from memory, if a CPU loads them in the course of the change
  kFromMemory,  // in any case: CR3 was written
};

// See VcpuMmu::SetRegisters.
absl::Status LoadRegisters(Vm& vm, VcpuState& vcpu,
                           const PagingRegisters& registers, PdpteLoad load)
    ABSL_LOCKS_EXCLUDED(vm.lock);
// The same with these PDPTEs.
absl::Status LoadRegisters(Vm& vm, VcpuState& vcpu,
                           const PagingRegisters& registers,
                           const Pdptes& pdptes) ABSL_LOCKS_EXCLUDED(vm.lock);

// See VcpuMmu::SetFeatures.
absl::Status LoadFeatures(Vm& vm, VcpuState& vcpu, const CpuFeatures& features)
    ABSL_LOCKS_EXCLUDED(vm.lock);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_LOAD_REGISTERS_H_
