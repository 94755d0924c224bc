// ListReserve: descriptors and arrays of places that one thread has taken from
// the pools ahead, so that it can add to lists beside others who do, without a
// lock that they share.
//
// What is here counts as in use for the pools, and is on no list.
//
// Locking: one thread. PteLists fills and empties it, under the pools' lock.

#ifndef SHADOWMMU_RMAP_LIST_RESERVE_H_
#define SHADOWMMU_RMAP_LIST_RESERVE_H_

#include <array>
#include <cstdint>

#include "src/base/check.h"

namespace shadowmmu {

// A number of each.
struct ListNeeds {
  uint32_t descriptors = 0;
  uint32_t place_arrays = 0;
};

// Indices of one pool, last in, first out.
class IndexStack {
 public:
  // The most that any caller needs at once (make_room.h), and some more.
  static constexpr uint32_t kCapacity = 160;

  uint32_t count() const { return count_; }
  uint32_t Pop() {
    SMMU_CHECK_GT(count_, 0u) << "taken without a reservation";
    return index_[--count_];
  }
  void Clear() { count_ = 0; }
  void Push(uint32_t index) {
    SMMU_CHECK_LT(count_, kCapacity);
    index_[count_++] = index;
  }

 private:
  uint32_t count_ = 0;
  std::array<uint32_t, kCapacity> index_;
};

class ListReserve {
 public:
  bool Covers(const ListNeeds& needs) const {
    return descriptors.count() >= needs.descriptors &&
           place_arrays.count() >= needs.place_arrays;
  }

  // What is here is the pools' again, all at once (PteLists::Reset).
  void Forget() {
    descriptors.Clear();
    place_arrays.Clear();
  }

  IndexStack descriptors;
  IndexStack place_arrays;
};

}  // namespace shadowmmu

#endif  // SHADOWMMU_RMAP_LIST_RESERVE_H_
