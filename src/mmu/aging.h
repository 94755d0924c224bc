// aging: whether the guest used memory lately, by the accessed bits that the
// CPU sets in sptes.
//
//  1. Aging clears the bits and flushes nothing: a CPU that has an entry cached
//     need not set its bit again, so a page in use may look old. It is a hint,
//     and costs no flush.
//  2. An spte that is zapped takes its accessed bit with it.
//
// Locking: takes the MMU lock.

#ifndef SHADOWMMU_MMU_AGING_H_
#define SHADOWMMU_MMU_AGING_H_

#include "shadowmmu/address.h"
#include "src/mmu/vm.h"

namespace shadowmmu {

enum class Aging : uint8_t { kClear, kTestOnly };

// Whether any spte that maps memory in `hvas` has its accessed bit set.
bool AgeRange(Vm& vm, HvaRange hvas, Aging aging) ABSL_LOCKS_EXCLUDED(vm.lock);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_AGING_H_
