// make_room: sees to it, before anything is changed, that what follows cannot
// run out of memory half-way.
//
//  1. Pools grow outside the MMU lock: it is dropped for that, and taken again.
//  2. When the tables that the page limit allows, or the descriptors, are used
//     up, the oldest shadow pages go, those of older generations first; roots
//     stay, but for those that vCPUs have left.
//  3. After it, everything that was known under the lock must be checked anew:
//     the caller's root, too, may be gone.
//
// Locking: the MMU lock, held by `held`.

#ifndef SHADOWMMU_MMU_MAKE_ROOM_H_
#define SHADOWMMU_MMU_MAKE_ROOM_H_

#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "src/mmu/vm.h"
#include "src/rmap/pte_lists.h"

namespace shadowmmu {

// What an operation may take from the pools at most.
struct Needs {
  uint32_t tables = 0;
  uint32_t translations = 0;
  uint32_t descriptors = 0;
  uint32_t place_arrays = 0;
};

// For a fault that makes at most `tables` new pages: each may be linked, and
// one leaf be put on an rmap, and so may its `neighbours` in the same table.
constexpr Needs NeedsOfFault(uint32_t tables, uint32_t neighbours = 0) {
  const uint32_t adds = tables + 1;  // a link each, and one leaf
  // An Add may take an array of places for each of two tables. Of a neighbour
  // one of the two is the leaf's, which has taken its own.
  return {.tables = tables,
          .translations = tables,
          .descriptors = (adds + neighbours) * PteLists::kAddDescriptors,
          .place_arrays = adds * PteLists::kAddPlaceArrays +
                          neighbours * (PteLists::kAddPlaceArrays - 1)};
}

inline bool HasRoom(Vm& vm, const Needs& needs)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  // Of translations and place arrays there are as many as tables when their
  // pools are at their limit: a table that is free has its own.
  const auto& translations = vm.arena.translations();
  const auto& places = vm.lists.back_references().pool();
  return vm.arena.free_tables() >= needs.tables &&
         (translations.available() >= needs.translations ||
          translations.at_limit()) &&
         (places.available() >= needs.place_arrays || places.at_limit()) &&
         vm.lists.descriptors().available() >= needs.descriptors;
}

// Grows and evicts. Precondition: there is no room.
bool MakeRoomSlow(Vm& vm, VmLock& held, const Needs& needs)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);

// False: there is no memory; nothing has changed but for what was evicted.
[[nodiscard]] inline bool MakeRoom(Vm& vm, VmLock& held, const Needs& needs)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  return HasRoom(vm, needs) || MakeRoomSlow(vm, held, needs);
}

// See Mmu::SetPageLimit. Precondition: roots alone cannot exceed `limit`, and
// the capacity does not fall short of it.
void SetPageLimit(Vm& vm, uint32_t limit) ABSL_LOCKS_EXCLUDED(vm.lock);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_MAKE_ROOM_H_
