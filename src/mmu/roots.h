// roots: where a vCPU's walk begins.
//
//  1. A root is held by a count in its shadow pages, so that it is not freed
//     while a CPU may walk it.
//  2. A root is usable while its pages are active and of the current
//     generation, and its handle of the current epoch.
//  3. The four entries of a PAE root are written when the root is loaded, while
//     the vCPU is out of the guest; they have no W and U bits. What the guest's
//     PDPTEs do not name is not present.
//  4. A new root is never used with what the CPU has cached of the old one: a
//     flush is asked for. (Another CR3 need not flush, where the CPU tags what
//     it caches with a VPID or an ASID; and a PAE root is at the same address.)
//     So the walking CPU needs no PCIDs: what a guest may keep of one is in the
//     shadow pages that the root leads to.
//  5. To flush is to bring in step what the root leads to (SyncRoot), and to
//     flush the walking CPU. The first takes no lock that vCPUs share where
//     nothing under the root is unsync.
//
// Locking: the MMU lock where it says so; the vCPU's own thread. Takes
// roots_lock.

#ifndef SHADOWMMU_MMU_ROOTS_H_
#define SHADOWMMU_MMU_ROOTS_H_

#include <optional>

#include "absl/base/thread_annotations.h"
#include "shadowmmu/fault.h"
#include "src/mmu/vcpu_state.h"
#include "src/mmu/vm.h"

namespace shadowmmu {

// Of a page that is not there (RootHandle) nothing is asked.
bool RootUsable(Vm& vm, const RootHandle& root)
    ABSL_SHARED_LOCKS_REQUIRED(vm.lock);

// Makes the vCPU's root usable: lets go of an old one, finds or makes the new
// one. nullopt: it is; otherwise kMemoryFault (CR3 outside the slots), kRetry
// or kNoMemory. Takes the MMU lock.
std::optional<FaultOutcome> LoadRoot(Vm& vm, VcpuState& vcpu)
    ABSL_LOCKS_EXCLUDED(vm.lock);

// Points the walking CPU to the current root.
void PlaceRoot(Vm& vm, VcpuState& vcpu)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vcpu.roots_lock);

// Nothing that was cached under the current root may be used any more: neither
// by the walking CPU, nor what the root leads to and is out of step.
void NoteRootFlushed(Vm& vm, VcpuState& vcpu);
// Brings everything that the current root leads to in step. Takes the MMU lock,
// and lets others in between.
void SyncRoot(Vm& vm, VcpuState& vcpu) ABSL_LOCKS_EXCLUDED(vm.lock);

// Gives back the counts that a root holds.
void LetGo(Vm& vm, const RootHandle& root)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);
// Lets go of the current root, if there is one.
void ReleaseRoot(Vm& vm, VcpuState& vcpu)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);

// Whether some vCPU walks from this page now: it is of its current root. The
// vCPU may leave it, or come back to it, at any time.
bool IsCurrentRoot(Vm& vm, TableIndex table)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_ROOTS_H_
