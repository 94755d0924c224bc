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
// Locking: the MMU lock, held by `held`, exclusively but where it says so.

#ifndef SHADOWMMU_MMU_MAKE_ROOM_H_
#define SHADOWMMU_MMU_MAKE_ROOM_H_

#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "src/mmu/guest_format.h"
#include "src/mmu/vm.h"
#include "src/rmap/pte_lists.h"

namespace shadowmmu {

// What an operation may take from the pools at most.
struct Needs {
  uint32_t tables = 0;
  uint32_t translations = 0;
  ListNeeds lists;
};

// The pages that a fault makes at most: one for each level below the root.
inline constexpr uint32_t kTablesOfFault = kMaxLevels - 1;

// For a fault that makes at most `tables` new pages: each may be linked, and
// one leaf be put on an rmap, and so may its `neighbours` in the same table.
constexpr Needs NeedsOfFault(uint32_t tables, uint32_t neighbours = 0) {
  const uint32_t adds = tables + 1;  // a link each, and one leaf
  // An Add may take an array of places for each of two tables. Of a neighbour
  // one of the two is the leaf's, which has taken its own.
  return {
      .tables = tables,
      .translations = tables,
      .lists = {.descriptors = (adds + neighbours) * PteLists::kAddDescriptors,
                .place_arrays = adds * PteLists::kAddPlaceArrays +
                                neighbours * (PteLists::kAddPlaceArrays - 1)}};
}
static_assert(NeedsOfFault(kMaxLevels, kMaxPrefetch).lists.place_arrays +
                  PteLists::kMoreDescriptors <=
              IndexStack::kCapacity);

// Whether there is room, once `reserve` is filled.
inline bool HasRoom(Vm& vm, const ListReserve& reserve, const Needs& needs)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  // Of translations there are as many as tables when their pool is at its
  // limit: a table that is free has its own.
  const auto& translations = vm.arena.translations();
  return vm.arena.free_tables() >= needs.tables &&
         (translations.available() >= needs.translations ||
          translations.at_limit()) &&
         (reserve.Covers(needs.lists) ||
          vm.lists.CanFill(reserve, needs.lists));
}

// Grows and evicts. Precondition: there is no room.
bool MakeRoomSlow(Vm& vm, VmLock& held, const ListReserve& reserve,
                  const Needs& needs) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);

// False: there is no memory; nothing has changed but for what was evicted.
[[nodiscard]] inline bool MakeRoom(Vm& vm, VmLock& held, ListReserve& reserve,
                                   const Needs& needs)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  if (!HasRoom(vm, reserve, needs) && !MakeRoomSlow(vm, held, reserve, needs)) {
    return false;
  }
  if (!reserve.Covers(needs.lists)) vm.lists.FillReserve(reserve, needs.lists);
  return true;
}

// With the lock held shared: fills the reserve from what is there. False: it is
// MakeRoom's turn.
[[nodiscard]] inline bool MakeRoomShared(Vm& vm, ListReserve& reserve,
                                         const ListNeeds& needs)
    ABSL_SHARED_LOCKS_REQUIRED(vm.lock) {
  if (reserve.Covers(needs)) return true;
  SpinLockHolder held(&vm.pools_lock);
  if (!vm.lists.CanFill(reserve, needs)) return false;
  vm.lists.FillReserve(reserve, needs);
  return true;
}

// See Mmu::SetPageLimit. Precondition: roots alone cannot exceed `limit`, and
// the capacity does not fall short of it.
void SetPageLimit(Vm& vm, uint32_t limit) ABSL_LOCKS_EXCLUDED(vm.lock);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_MAKE_ROOM_H_
