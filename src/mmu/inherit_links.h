// inherit_links: what a new root has from the one that its vCPU has left. A
// kernel's half of the address space is in the tables of every process, by
// entries that are equal in all their top-level tables; each would cost the new
// root a fault.
//
//  1. A link is made where a walk would make the same: the guest's entry in the
//     new table, as it is and with no A bit to set, leads to the guest table of
//     that very page, by the same role.
//  2. What is unsync, or leads to what is, is left out: to link it would be to
//     bring it in step first.
//
// Locking: the MMU lock.

#ifndef SHADOWMMU_MMU_INHERIT_LINKS_H_
#define SHADOWMMU_MMU_INHERIT_LINKS_H_

#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "src/mmu/guest_format.h"
#include "src/mmu/vm.h"
#include "src/mmu/writer.h"

namespace shadowmmu {

// The most links that one root inherits.
inline constexpr uint32_t kMaxInherited = 32;

// Links under `to`, an indirect page with no entries, up to `most` of the pages
// that `from` links. Returns how many. Preconditions: both are current, and of
// tables that `format` describes; that the guest cannot write `to`'s table
// unseen (no flush is owed for that); room for the links.
uint32_t InheritLinks(Vm& vm, Writer& writer, const GuestFormat& format,
                      TableIndex from, TableIndex to, uint32_t most)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock, vm.structure_lock);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_INHERIT_LINKS_H_
