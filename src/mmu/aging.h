// aging: whether the guest used memory lately, by the accessed bits that the
// CPU sets in sptes.
//
//  1. Aging clears the bits and flushes nothing: a CPU that has an entry cached
//     need not set its bit again, so a page in use may look old. It is a hint,
//     and costs no flush.
//  2. An spte that is zapped takes its accessed bit with it.
//  3. Faults go on beside it: it holds the MMU lock shared, and the lock of
//     some dozens of lists at a time.
//
// Locking: takes the MMU lock, shared, for a part of the range at a time.

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
