// guest_flush: INVLPG and INVPCID, by which a guest takes translations out of
// its CPU's TLB; here, out of the shadow pages that stand for it.
//
//  1. A translation of one address is dropped at once, under every root that
//     the guest could use it by without a further flush. The guest's tables are
//     read again by the next access.
//  2. A flush of a whole context is noted (roots.h).
//
// Locking: takes the MMU lock; the vCPU's own thread, out of the guest.

#ifndef SHADOWMMU_MMU_GUEST_FLUSH_H_
#define SHADOWMMU_MMU_GUEST_FLUSH_H_

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "shadowmmu/address.h"
#include "shadowmmu/registers.h"
#include "src/mmu/vcpu_state.h"
#include "src/mmu/vm.h"

namespace shadowmmu {

// See VcpuMmu::Invlpg.
void Invlpg(Vm& vm, VcpuState& vcpu, Gva gva) ABSL_LOCKS_EXCLUDED(vm.lock);

// See VcpuMmu::Invpcid.
absl::Status Invpcid(Vm& vm, VcpuState& vcpu, InvpcidType type,
                     const InvpcidDescriptor& descriptor)
    ABSL_LOCKS_EXCLUDED(vm.lock);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_GUEST_FLUSH_H_
