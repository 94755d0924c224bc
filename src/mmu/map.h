// map: writes what a guest walk found into the shadow tables, from the root
// down.
//
//  1. Each guest entry on the way is read again under the MMU lock, once its
//     table is write-protected and the flush for that is paid: from then on the
//     guest cannot change it unseen, so what is linked is what the guest says.
//  2. A child that is linked already is kept only if its gfn and its role are
//     what this walk needs; otherwise it is unlinked first.
//     (Two bugs that sat in KVM for 16 years and more came of trusting it.)
//  3. A page that holds a tracked guest table is never mapped writable. A write
//     to one makes its shadow pages unsync, if they can be (sync.h).
//  4. In a slot that logs, a page is mapped small, and writable only if it is
//     marked dirty.
//  5. Most faults only add, and do so beside each other, with the MMU lock held
//     shared. One that finds that something must go first, or be synced, is
//     done again by a caller that holds it exclusively.
//
// Locking: the MMU lock.

#ifndef SHADOWMMU_MMU_MAP_H_
#define SHADOWMMU_MMU_MAP_H_

#include "absl/base/thread_annotations.h"
#include "shadowmmu/access.h"
#include "src/mmu/guest_walk.h"
#include "src/mmu/vcpu_state.h"
#include "src/mmu/vm.h"

namespace shadowmmu {

// What to map: the walk's result, and what the host has there.
struct MapTarget {
  Gva gva;
  const Access& access;
  const GuestWalk& walk;
  const Memslot& slot;  // of walk.gfn; live
  HostPage host;
  Level largest;  // MaxMapLevel() of it
};

enum class MapResult : uint8_t {
  kMapped,
  kStale,           // the guest's tables changed: start over
  kNeedsExclusive,  // rule 5; what was added so far stays
  kWriteTracked,    // mapped for reading; the write must be emulated
};

// The largest level at which guest, slot and host allow the target, shadowed
// tables apart.
Level MaxMapLevel(const Vm& vm, const GuestWalk& walk, const Memslot& slot,
                  const HostPage& host);

// Precondition: room (make_room.h), held exclusively, for all the pages below
// the root, in either way for what is put on lists; the chunks of the target
// and of every table exist; the root is usable. `*leaf`: the entry that maps
// the target now, where the result says that one does.
MapResult Map(Vm& vm, VcpuState& vcpu, VmHold hold, const MapTarget& target,
              SpteRef* leaf) ABSL_SHARED_LOCKS_REQUIRED(vm.lock);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_MAP_H_
