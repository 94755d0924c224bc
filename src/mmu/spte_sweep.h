// Sweeps: what spte_write.h does to one spte, done to many in lean loops that
// look ahead. Like it, the only writers of sptes, under the same rules; every
// function here leaves entries, lists, counts and the flush owed in step.
//
//  1. What a sweep will touch is asked of the cache some entries before: the
//     walks of a large VM are all misses, and it is their overlap that makes
//     them fast. The distances are measured: bench/micro, Sweep.
//  2. Between clearing an entry and taking it off its list a sweep may clear
//     others; when it returns, nothing is half-done.
//
// Locking: the MMU lock, exclusively but where it says so.

#ifndef SHADOWMMU_MMU_SPTE_SWEEP_H_
#define SHADOWMMU_MMU_SPTE_SWEEP_H_

#include <span>

#include "absl/base/thread_annotations.h"
#include "src/mmu/flush.h"
#include "src/mmu/vm.h"

namespace shadowmmu {

// How an entry is cleared. Both are right at any time: the CPU sets accessed
// and dirty bits by locked updates, and no entry that was cleared comes back.
// Only an exchange takes what the CPU has set with it, to be told to whom it
// may concern; for an obsolete page that no vCPU runs on, nobody wants to know,
// and a plain store is some twenty cycles cheaper.
enum class Clearing : uint8_t { kExchange, kStore };

// Why the right to write is taken: a leaf that only the dirty log keeps from
// being writable says so, and gets it back by a fast fault (fast_fault.h).
enum class Protect : uint8_t { kForLog, kWholly };

// Clears every entry of a table.
void DropEntries(Vm& vm, TableIndex table, Clearing clearing,
                 FlushObligation& flush) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);

// Whether any entry of a table has its accessed bit set; clears it in all. As
// with ClearAccessedRange no flush is owed.
bool ClearAccessedEntries(Vm& vm, TableIndex table)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);

// Clears these entries, whatever they are. Repeated ones do no harm.
void DropRefs(Vm& vm, std::span<const SpteRef> refs, FlushObligation& flush)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);

// The rest is about the sptes that map any of `gfns`, at every level, in one
// slot. Precondition: `rmaps` covers `gfns`.

// Clears them.
void DropRange(Vm& vm, SlotRmaps& rmaps, GfnRange gfns, FlushObligation& flush)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);

// Clears those above level 4K, and takes the right to write from the others,
// for the log: what is mapped then is small and read-only.
void SplitRange(Vm& vm, SlotRmaps& rmaps, GfnRange gfns, FlushObligation& flush)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);

// Takes the right to write away. For the log: those of level 4K, there are no
// others.
void WriteProtectRange(Vm& vm, SlotRmaps& rmaps, GfnRange gfns, Protect why,
                       FlushObligation& flush)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);

// The same for one gfn, wholly, beside others who add to its lists. It takes
// the lock of each, whether there seems to be anything on it or not: somebody
// may be about to add (rule 3 of table_tracking.h).
void WriteProtectGfn(Vm& vm, SlotRmaps& rmaps, Gfn gfn, FlushObligation& flush)
    ABSL_SHARED_LOCKS_REQUIRED(vm.lock);

// Whether any has its accessed bit set; the first clears it, too. No flush is
// owed: a CPU that has the entry cached may not set the bit again soon, so
// aging errs toward old. Under the locks of the lists, beside others who map.
bool ClearAccessedRange(Vm& vm, SlotRmaps& rmaps, GfnRange gfns)
    ABSL_SHARED_LOCKS_REQUIRED(vm.lock);
bool TestAccessedRange(Vm& vm, SlotRmaps& rmaps, GfnRange gfns)
    ABSL_SHARED_LOCKS_REQUIRED(vm.lock);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_SPTE_SWEEP_H_
