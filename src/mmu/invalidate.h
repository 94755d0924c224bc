// invalidate: the ways to make every shadow page go.
//
//  1. A bump costs the same whatever there is: it raises mmu_valid_gen, and
//     leaves every vCPU a root reload. The obsolete pages' sptes stay valid,
//     and on their rmaps, for notifiers to find.
//  2. The obsolete walk goes oldest first, and stops at the first current page.
//     It zaps whole pages, so that sptes leave the rmaps of live slots too.
//  3. It breaks the lock when others wait, with nothing half-done: every page
//     zapped before the break is freed, and was flushed if any CPU was on an
//     obsolete root.
//
// Locking: takes the MMU lock.

#ifndef SHADOWMMU_MMU_INVALIDATE_H_
#define SHADOWMMU_MMU_INVALIDATE_H_

#include <cstdint>

#include "shadowmmu/mmu.h"
#include "src/mmu/vm.h"

namespace shadowmmu {

inline constexpr uint64_t kNoBudget = ~uint64_t{0};

void Bump(Vm& vm) ABSL_LOCKS_EXCLUDED(vm.lock);
ReclaimResult Reclaim(Vm& vm, uint64_t budget) ABSL_LOCKS_EXCLUDED(vm.lock);
void ZapAll(Vm& vm) ABSL_LOCKS_EXCLUDED(vm.lock);
void Invalidate(Vm& vm, Strategy strategy) ABSL_LOCKS_EXCLUDED(vm.lock);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_INVALIDATE_H_
