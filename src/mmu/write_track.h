// write_track: stores into guest memory that the hypervisor emulates, and what
// they do to the guest tables that are shadowed.
//
//  1. The library performs the store itself, and drops every spte that was made
//     from what it changes, in one hold of the MMU lock: no fault can map from
//     the old contents afterwards.
//  2. A store that changes nothing drops nothing, but for rule 5.
//  3. Obsolete pages count: a vCPU may still be running on them.
//
//  4. So do the accessed and dirty bits that a walk sets, where they are more
//     than such bits to somebody: in the upper half of an entry of 8 bytes,
//     because the frame is a table of 4-byte entries to this vCPU, and one of
//     8-byte entries to another.
//  5. A guest table that is written as data is shadowed no longer, and no more
//     stores into it need an exit: a store that is no edit of an entry zaps its
//     shadow pages, and so does write flooding: MmuConfig::write_flooding
//     stores in a row into one table, with no use of it in between. Used is a
//     page that a fault walks through, and one in which the CPU has set an
//     accessed bit; these are looked at, and cleared, after that many stores. A
//     page that is unsync costs no exits, and stays.
//     Nor is one that a store has unlinked, and nothing links any more
//     (orphans.h).
//  6. Rule 5 spares what is a vCPU's current root. CR3 or a PDPTE names it, so
//     it is a table, whatever is written there; once everything below it is
//     mapped no fault tells of its use; and without it the vCPU would have to
//     load it again. Previous roots go: a kernel gives the table of a process
//     that ended to somebody else, and nothing tells.
//
// Locking: takes the MMU lock.

#ifndef SHADOWMMU_MMU_WRITE_TRACK_H_
#define SHADOWMMU_MMU_WRITE_TRACK_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "shadowmmu/address.h"
#include "shadowmmu/fault.h"
#include "src/mmu/guest_walk.h"
#include "src/mmu/vm.h"

namespace shadowmmu {

// See Mmu::GuestWrite, GuestRead, GuestCompareExchange.
FaultOutcome WriteGuest(Vm& vm, AddressSpace space, Gpa gpa,
                        std::span<const std::byte> bytes)
    ABSL_LOCKS_EXCLUDED(vm.lock);
FaultOutcome ReadGuest(Vm& vm, AddressSpace space, Gpa gpa,
                       std::span<std::byte> out) ABSL_LOCKS_EXCLUDED(vm.lock);
absl::StatusOr<GuestExchange> CompareExchangeGuest(Vm& vm, AddressSpace space,
                                                   Gpa gpa, unsigned size,
                                                   uint64_t expected,
                                                   uint64_t desired)
    ABSL_LOCKS_EXCLUDED(vm.lock);

// See Mmu::StopShadowing.
bool StopShadowing(Vm& vm, Gfn gfn) ABSL_LOCKS_EXCLUDED(vm.lock);

// After a walk of 4-byte entries that set bits (GuestWalk::upper_half_set).
void NoteWalkerStores(Vm& vm, const GuestFormat& format, const GuestWalk& walk,
                      Gva gva) ABSL_LOCKS_EXCLUDED(vm.lock);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_WRITE_TRACK_H_
