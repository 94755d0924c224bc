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
//     So the walking CPU needs no PCIDs: what a guest may keep of one is in the
//     shadow pages that the root leads to.
//  6. What the guest flushes reaches the roots of that PCID: the current one at
//     the next entry, the others when the vCPU comes back to them. A root that
//     is not kept is flushed when it is found again.
//  7. To flush is to bring in step what the root leads to (SyncRoot), and to
//     flush the walking CPU. The first takes no lock that vCPUs share where
//     nothing under the root is unsync.
//
// Locking: the MMU lock where it says so; the vCPU's own thread, but for
// DropPreviousRoots. Takes roots_lock.

#ifndef SHADOWMMU_MMU_ROOTS_H_
#define SHADOWMMU_MMU_ROOTS_H_

#include <cstdint>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
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

// Whether some vCPU walks from this page now: it is of its current root. The
// vCPU may leave it, or come back to it, at any time.
bool IsCurrentRoot(Vm& vm, TableIndex table)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_ROOTS_H_
