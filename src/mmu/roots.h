// roots: where a vCPU's walk begins.
//
//  1. A root is held by a count in its shadow pages, so that it is not freed
//     while a CPU may walk it.
//  2. The roots that a vCPU had before are held as well (previous_roots), and
//     are the first to go when there is no room.
//  3. A root is usable while its pages are active and of the current
//     generation, and its handle of the current epoch.
//  4. The four entries of a PAE root are written when the root is loaded, while
//     the vCPU is out of the guest; they have no W and U bits. What the guest's
//     PDPTEs do not name is not present.
//  5. A new root is never used with what the CPU has cached of the old one: a
//     flush is asked for. (Another CR3 need not flush, where the CPU tags what
//     it caches with a VPID or an ASID; and a PAE root is at the same address.)
//
//  6. A guest that flushes finds nothing that is older: what the root leads to
//  is
//     brought in step before the vCPU enters again (NoteFlush). That takes no
//     lock that vCPUs share where nothing under the root is unsync.
//
// Locking: the MMU lock where it says so; the vCPU's own thread, but for
// DropPreviousRoots. Takes roots_lock.

#ifndef SHADOWMMU_MMU_ROOTS_H_
#define SHADOWMMU_MMU_ROOTS_H_

#include <optional>

#include "absl/base/thread_annotations.h"
#include "shadowmmu/fault.h"
#include "src/mmu/vcpu_state.h"
#include "src/mmu/vm.h"

namespace shadowmmu {

// Of a page that is not there (RootHandle) nothing is asked.
bool RootUsable(Vm& vm, const VcpuState& vcpu)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);

// Makes the vCPU's root usable: lets go of an old one, finds or makes the new
// one. nullopt: it is; otherwise kMemoryFault (CR3 outside the slots), kRetry
// or kNoMemory. Takes the MMU lock.
std::optional<FaultOutcome> LoadRoot(Vm& vm, VcpuState& vcpu)
    ABSL_LOCKS_EXCLUDED(vm.lock);

// Makes the root of the vCPU's mode and address space, as they are now, its
// current one: the same, a previous one, or none, to be loaded.
void SwitchRoot(Vm& vm, VcpuState& vcpu) ABSL_LOCKS_EXCLUDED(vm.lock);

// The guest has flushed what its CPU has cached under the current root.
void NoteFlush(Vm& vm, VcpuState& vcpu);
// Brings everything that the current root leads to in step. Takes the MMU lock,
// and lets others in between.
void SyncRoot(Vm& vm, VcpuState& vcpu) ABSL_LOCKS_EXCLUDED(vm.lock);

// Lets go of the current root, if there is one.
void ReleaseRoot(Vm& vm, VcpuState& vcpu)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);

// Lets go of every previous root, of one vCPU or of all.
void DropPreviousRoots(Vm& vm, VcpuState& vcpu)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);
void DropPreviousRoots(Vm& vm) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_ROOTS_H_
