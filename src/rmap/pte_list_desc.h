// PteListDesc: one link of a chain of sptes. One cache line.
//
//   | 0     14 spte references     55 | 56 next | 60 owner (28) | count (4) |
//
//  1. Entries [0, count) are in use. Only the first descriptor of a chain may
//     have fewer than 14.
//  2. `next` is the index of the next descriptor, 0 at the end.
//  3. Every descriptor of a chain carries the owner tag of its list.

#ifndef SHADOWMMU_RMAP_PTE_LIST_DESC_H_
#define SHADOWMMU_RMAP_PTE_LIST_DESC_H_

#include <cstdint>

#include "src/rmap/rmap_head.h"
#include "src/rmap/spte_ref.h"

namespace shadowmmu {

struct alignas(64) PteListDesc {
  static constexpr unsigned kCapacity = 14;

  SpteRef sptes[kCapacity];
  uint32_t next;
  uint32_t owner_and_count;

  unsigned count() const { return owner_and_count & 0xf; }
  OwnerTag owner() const { return OwnerTag(owner_and_count >> 4); }
  void Reset(OwnerTag owner, uint32_t next_descriptor) {
    next = next_descriptor;
    owner_and_count = owner.bits() << 4;
  }
  // Precondition: count() < kCapacity. Returns the place of the new entry.
  unsigned Push(SpteRef ref) {
    const unsigned place = count();
    sptes[place] = ref;
    ++owner_and_count;
    return place;
  }
  // Precondition: count() > 0.
  SpteRef Pop() {
    --owner_and_count;
    return sptes[count()];
  }
};
static_assert(sizeof(PteListDesc) == 64);

// The index of a descriptor has 28 bits, so that it fits a Place.
inline constexpr uint32_t kMaxDescriptors = uint32_t{1} << 28;

// Where in a chain an spte sits: the back-reference that makes removal O(1).
class Place {
 public:
  constexpr Place() = default;
  constexpr Place(uint32_t descriptor, unsigned position)
      : bits_((descriptor << 4) | position) {}
  constexpr uint32_t descriptor() const { return bits_ >> 4; }
  constexpr unsigned position() const { return bits_ & 0xf; }
  friend constexpr bool operator==(Place, Place) = default;

 private:
  uint32_t bits_ = 0;
};
static_assert(sizeof(Place) == 4);

}  // namespace shadowmmu

#endif  // SHADOWMMU_RMAP_PTE_LIST_DESC_H_
