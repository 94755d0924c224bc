// release: makes every shadow page go at a cost that does not depend on how
// many there are. The answer to the mail's last question, "Why not release all
// rmaps?"
//
// Nothing is walked. The arena of tables is reset in place, and whatever
// describes pages with it; what is too much to be reset at once carries the
// arena epoch that it is of, and reads as empty in another: the chunks of
// rmaps, the records of GiBs, the counts of slots, the buckets of the hash, the
// handles of roots.
//
//  1. No CPU uses what is taken away. Entry is forbidden to every vCPU (a root
//     reload is requested of it, which needs the MMU lock), those in the guest
//     are kicked, and all are waited for: on their own mode words. Whoever
//     walks a root with no lock is waited for in the same way. Only then are
//     the counters raised: the other way round a notifier would find nothing
//     mapped while a CPU still writes there.
//  2. What is tagged is reset before its new tag is published, by who uses it
//     first (SlotRmaps, ShadowPageTable, TableArena).
//  3. Of what is held outside the MMU lock nothing is counted down, freed or
//     looked up: a root is a handle with an epoch, and a vCPU's reserve is
//     emptied here. Walks that let others in keep no index over that: they
//     begin anew with what is there then.
//  4. Every vCPU loads a new root before it enters the guest again, and flushes
//     for that (roots.h).
//  5. Nothing that must survive is kept in sptes alone: a page is marked dirty
//     when it becomes writable. (No slot logs by D bits, for which a release
//     would have to read them all.) Accessed bits are lost, which aging may do.
//
// Locking: takes the MMU lock, exclusively, and holds it while it waits for the
// vCPUs that are in the guest: see Host::Kick.

#ifndef SHADOWMMU_MMU_RELEASE_H_
#define SHADOWMMU_MMU_RELEASE_H_

#include "absl/base/thread_annotations.h"
#include "src/mmu/vm.h"

namespace shadowmmu {

void Release(Vm& vm) ABSL_LOCKS_EXCLUDED(vm.lock);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_RELEASE_H_
