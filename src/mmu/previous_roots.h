// previous_roots: the roots that a vCPU has left and may come back to, and what
// its guest has flushed of them meanwhile.
//
//  1. A switch of CR3, mode or address space to a root that the vCPU has kept
//     takes no lock that vCPUs share.
//  2. What the guest flushes reaches the roots of that PCID: the current one at
//     the next entry, the others when the vCPU comes back to them. A root that
//     is not kept is flushed when it is found again.
//  3. Previous roots are the first to go when there is no room.
//
// Locking: the MMU lock where it says so; the vCPU's own thread, but for the
// Drop... functions. Takes roots_lock.

#ifndef SHADOWMMU_MMU_PREVIOUS_ROOTS_H_
#define SHADOWMMU_MMU_PREVIOUS_ROOTS_H_

#include <cstdint>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "src/mmu/vcpu_state.h"
#include "src/mmu/vm.h"

namespace shadowmmu {

// What a write of the guest's registers flushes (SDM vol. 3, 4.10.4.1).
enum class GuestFlush : uint8_t {
  kNone,     // MOV to CR3 that asks for none
  kContext,  // MOV to CR3: what is cached of the PCID that is current then
  kAll,      // of every PCID
};

// Makes the root of the vCPU's mode and address space, as they are now, its
// current one: the same, a previous one, or none, to be loaded.
void SwitchRoot(Vm& vm, VcpuState& vcpu, GuestFlush flush)
    ABSL_LOCKS_EXCLUDED(vm.lock);

// The guest has flushed what is cached of this PCID, or of every one.
void NoteFlushed(Vm& vm, VcpuState& vcpu, Pcid pcid);
void NoteAllFlushed(Vm& vm, VcpuState& vcpu);

// Calls `visit` for each usable root of `pcid`, nullopt: of any, that the vCPU
// is at or, with PCIDs, may come back to by a CR3 write without a flush.
void ForEachRootInReach(Vm& vm, const VcpuState& vcpu, std::optional<Pcid> pcid,
                        absl::FunctionRef<void(const RootHandle&)> visit)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);

// Lets go of every previous root, of one vCPU or of all.
void DropPreviousRoots(Vm& vm, VcpuState& vcpu)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);
void DropPreviousRoots(Vm& vm) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);
// Of those that are not usable.
void DropUnusablePreviousRoots(Vm& vm, VcpuState& vcpu)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_PREVIOUS_ROOTS_H_
