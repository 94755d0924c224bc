// prefetch: maps the neighbours of an entry that a fault has just mapped: those
// in an aligned window of the same page table (MmuConfig::prefetch, and
// VcpuMmu::Prefault).
//
//  1. Nothing is done for it that an access would have to ask for. No bit of
//     the guest's is set: A must be set already. No memory is taken but what
//     was reserved: a gfn whose chunk is not there is left out. The Host is
//     asked only for what it can tell without blocking.
//  2. No right is given that the first use of it must show: nothing is writable
//     whose D bit is clear, whose slot is read-only or logs what is dirty, or
//     whose gfn holds a tracked table, which is never made unsync for it. No
//     fix-ups (permission.h).
//  3. The accessed bit of the spte is clear: nobody has used it, and aging must
//     not hear that somebody did. The CPU sets it.
//  4. An entry that is present stays as it is, so that nothing owes a flush.
//  5. Under the MMU lock what the Host says of an hva that is not blocked holds
//     until the lock is let go: whoever blocks it has yet to take the lock, and
//     finds the entry, before the host may change anything. So the notifier
//     sequence does not matter here.
//
// Locking: the MMU lock, shared or not.

#ifndef SHADOWMMU_MMU_PREFETCH_H_
#define SHADOWMMU_MMU_PREFETCH_H_

#include "absl/base/thread_annotations.h"
#include "shadowmmu/address.h"
#include "src/mmu/guest_format.h"
#include "src/mmu/vm.h"
#include "src/mmu/writer.h"

namespace shadowmmu {

// `leaf` is the entry that was mapped, of an indirect page at level k4K whose
// guest has `format`; it was made from the guest's entry at `gpte`.
// `window`: a power of two up to kMaxPrefetch. Precondition: room for as many
// neighbours as there can be (NeedsOfFault).
void FillNeighbours(Vm& vm, Writer& writer, const GuestFormat& format,
                    SpteRef leaf, Hva gpte, unsigned window)
    ABSL_SHARED_LOCKS_REQUIRED(vm.lock);
// The same of a direct page: what the guest allows is what its role says.
void FillDirectNeighbours(Vm& vm, Writer& writer, SpteRef leaf, unsigned window)
    ABSL_SHARED_LOCKS_REQUIRED(vm.lock);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_PREFETCH_H_
