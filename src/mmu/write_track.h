// write_track: stores into guest memory that the hypervisor emulates, and what
// they do to the guest tables that are shadowed.
//
//  1. The library performs the store itself, and drops every spte that was made
//     from what it changes, in one hold of the MMU lock: no fault can map from
//     the old contents afterwards.
//  2. A store that changes nothing drops nothing.
//  3. Obsolete pages count: a vCPU may still be running on them.
//
//  4. So do the accessed and dirty bits that a walk sets, where they are more
//     than such bits to somebody: in the upper half of an entry of 8 bytes,
//     because the frame is a table of 4-byte entries to this vCPU, and one of
//     8-byte entries to another.
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

// After a walk of 4-byte entries that set bits (GuestWalk::upper_half_set).
void NoteWalkerStores(Vm& vm, const GuestFormat& format, const GuestWalk& walk,
                      Gva gva) ABSL_LOCKS_EXCLUDED(vm.lock);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_WRITE_TRACK_H_
