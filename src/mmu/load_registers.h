// load_registers: what a write of a guest's paging registers, or of the
// features of its CPU, does: checked first, PDPTEs and all; then the vCPU's
// mode, what its CPU must hold, and its root follow.
//
//  1. On an error nothing has changed.
//  2. PDPTEs are read from guest memory here, and nowhere else.
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

// Whether CR3 was written, be it with the value that it had: then PDPTEs are
// loaded in any case.
enum class Cr3Written : uint8_t { kNo, kYes };

// See VcpuMmu::SetRegisters.
absl::Status LoadRegisters(Vm& vm, VcpuState& vcpu,
                           const PagingRegisters& registers, Cr3Written written)
    ABSL_LOCKS_EXCLUDED(vm.lock);

// See VcpuMmu::SetFeatures.
absl::Status LoadFeatures(Vm& vm, VcpuState& vcpu, const CpuFeatures& features)
    ABSL_LOCKS_EXCLUDED(vm.lock);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_LOAD_REGISTERS_H_
