// notifier: the host takes memory away, and gives it back.
//
//  1. Begin first refuses new touches of the range and waits for those under
//     way, then unmaps it: afterwards neither the library nor any CPU can reach
//     the memory.
//  2. A fault that resolved the range before Begin, or between Begin and End,
//     finds out under the MMU lock (GuestMemory, rule 3), and starts over.
//     So it may unmap a large range in pieces, and let others in between: what
//     is unmapped stays so.
//  3. INVALID slots are unmapped too: their sptes are live until they are gone.
//
// Locking: takes the MMU lock. Not from inside a Host call.

#ifndef SHADOWMMU_MMU_NOTIFIER_H_
#define SHADOWMMU_MMU_NOTIFIER_H_

#include "absl/status/status.h"
#include "shadowmmu/address.h"
#include "src/mmu/vm.h"

namespace shadowmmu {

absl::Status BeginInvalidation(Vm& vm, HvaRange hvas)
    ABSL_LOCKS_EXCLUDED(vm.lock);
absl::Status EndInvalidation(Vm& vm, HvaRange hvas)
    ABSL_LOCKS_EXCLUDED(vm.lock);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_NOTIFIER_H_
