// fault: a fault's one straight way down.
//
//   walk the guest's tables                        no lock
//   find the slot                                  a slot reader's section
//   sample the notifier sequence, resolve the hva  no lock
//   make chunks; take the MMU lock; make room      shared, with other faults
//   check that nothing went stale                  the lock, AFTER making room
//   map, and fill neighbours                       the lock
//   where that takes more than adding: the same    the lock, exclusively
//
// A fault that finds something stale starts over, a bounded number of times,
// and then ends as kRetry.

#ifndef SHADOWMMU_MMU_FAULT_H_
#define SHADOWMMU_MMU_FAULT_H_

#include "shadowmmu/access.h"
#include "shadowmmu/address.h"
#include "shadowmmu/fault.h"
#include "src/mmu/vcpu_state.h"
#include "src/mmu/vm.h"

namespace shadowmmu {

// What is mapped beside the page of the access (prefetch.h).
struct Surroundings {
  unsigned window = 0;           // pages: a power of two; 0: nothing
  bool of_direct_pages = false;  // there, too
};

FaultOutcome HandleFault(Vm& vm, VcpuState& vcpu, Gva gva, const Access& access)
    ABSL_LOCKS_EXCLUDED(vm.lock);

// The same for an address that is linear already, and not counted as a fault.
FaultOutcome ResolveAccess(Vm& vm, VcpuState& vcpu, Gva gva,
                           const Access& access,
                           const Surroundings& surroundings)
    ABSL_LOCKS_EXCLUDED(vm.lock);

// The guest walk alone.
Translation TranslateGva(Vm& vm, VcpuState& vcpu, Gva gva, const Access& access)
    ABSL_LOCKS_EXCLUDED(vm.lock);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_FAULT_H_
