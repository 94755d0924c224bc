// sync: guest page tables that their guest may write with no trap, and how
// their shadow pages are brought in step again. A part of the waist.
//
//  1. Only page tables go unsync, never a table that is also shadowed at an
//     upper level: what an upper level says is always true, so that a sync has
//     to look at leaves only, and each of them by itself.
//  2. A sync first takes the right to write the table away, and pays the flush
//     for that; then it reads the guest's entries and drops every spte that
//     they no longer justify. It makes none: what is missing faults. So it
//     needs no memory, and no right of the guest's is looked at by anything but
//     the walk.
//  3. A page is marked until what its guest no longer justifies is gone: a vCPU
//     that finds no mark, and takes no lock, has nothing to wait for.
//  4. Whoever links a page, or shadows its table at an upper level, syncs it
//     first; a vCPU whose guest flushes syncs what its root leads to. A guest
//     that does neither may find old translations, as on a CPU with a TLB (SDM
//     vol. 3, 4.10.2.3; APM vol. 2, 5.5).
//
// Locking: the MMU lock. A sync needs it exclusively, for what it drops; to
// make unsync is to give a right, and needs structure_lock.

#ifndef SHADOWMMU_MMU_SYNC_H_
#define SHADOWMMU_MMU_SYNC_H_

#include "absl/base/thread_annotations.h"
#include "src/mmu/flush.h"
#include "src/mmu/vm.h"
#include "src/mmu/writer.h"

namespace shadowmmu {

// Makes every page that shadows the guest table in `gfn` unsync, so that `gfn`
// may be mapped writable. False: it may not, and nothing changed.
bool TryUnsync(Vm& vm, Writer& writer, Gfn gfn)
    ABSL_SHARED_LOCKS_REQUIRED(vm.lock)
        ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.structure_lock);

// Whether any page of the guest table in `gfn` is unsync.
bool AnyUnsync(Vm& vm, Gfn gfn) ABSL_SHARED_LOCKS_REQUIRED(vm.lock)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.structure_lock);

// Brings in step: a page, if it is unsync; every page of the guest table in
// `gfn`; everything that a page leads to.
void SyncPage(Vm& vm, TableIndex table, FlushObligation& flush)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);
void SyncGfn(Vm& vm, Gfn gfn, FlushObligation& flush)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);
void SyncBelow(Vm& vm, TableIndex table, FlushObligation& flush)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);

// Some of what a page leads to. False: there was nothing to do.
bool SyncSomeBelow(Vm& vm, TableIndex table, FlushObligation& flush)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_SYNC_H_
