// guest_entry: the guest's entry that an entry of an indirect shadow page is
// made from, as the guest's memory has it now.
//
// Locking: the MMU lock.

#ifndef SHADOWMMU_MMU_GUEST_ENTRY_H_
#define SHADOWMMU_MMU_GUEST_ENTRY_H_

#include <cstdint>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "src/mmu/vm.h"

namespace shadowmmu {

// One of 4 bytes has its upper half clear. nullopt: the host does not let it be
// read now.
std::optional<uint64_t> ReadGuestEntry(Vm& vm, SpteRef ref)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_GUEST_ENTRY_H_
