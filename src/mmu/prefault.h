// prefault: maps a range at once, for a guest that starts or comes back from a
// release.
//
//  1. What is mapped is what faults would map, by the same way (fault.h); but
//     each maps beside its page a whole window of those around it, direct pages
//     included, and what a window has mapped is only counted.
//  2. Nothing that is in use goes for it: where a fault would have to evict, it
//     ends.
//
// Locking: takes the MMU lock, shared but where a fault cannot do with that.

#ifndef SHADOWMMU_MMU_PREFAULT_H_
#define SHADOWMMU_MMU_PREFAULT_H_

#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "shadowmmu/access.h"
#include "shadowmmu/fault.h"
#include "src/mmu/vcpu_state.h"
#include "src/mmu/vm.h"

namespace shadowmmu {

PrefaultResult Prefault(Vm& vm, VcpuState& vcpu, Gva first, uint64_t pages,
                        const Access& access) ABSL_LOCKS_EXCLUDED(vm.lock);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_PREFAULT_H_
