// RmapHead: where the list of one gfn's sptes (or of one shadow page's parent
// sptes) begins, in 4 bytes.
//
//  1. All-zero: the list is empty.
//  2. Bit 31 clear: the bits are the one SpteRef on the list.
//  3. Bit 31 set: the low 28 bits are the index of the chain's first
//     descriptor. A chain stays a chain until its last spte is gone.
//
// Locking: the lock of whatever owns the list.

#ifndef SHADOWMMU_RMAP_RMAP_HEAD_H_
#define SHADOWMMU_RMAP_RMAP_HEAD_H_

#include <cstdint>

#include "src/rmap/spte_ref.h"

namespace shadowmmu {

class RmapHead {
 public:
  constexpr RmapHead() = default;
  static constexpr RmapHead Single(SpteRef ref) { return RmapHead(ref.bits()); }
  static constexpr RmapHead Chain(uint32_t descriptor) {
    return RmapHead(kChainBit | descriptor);
  }

  constexpr bool empty() const { return bits_ == 0; }
  constexpr bool chain() const { return (bits_ & kChainBit) != 0; }
  // Precondition: neither empty nor a chain.
  constexpr SpteRef single() const { return SpteRef::FromBits(bits_); }
  // Precondition: a chain.
  constexpr uint32_t descriptor() const { return bits_ & ~kChainBit; }
  friend constexpr bool operator==(RmapHead, RmapHead) = default;

 private:
  static constexpr uint32_t kChainBit = 1u << 31;
  constexpr explicit RmapHead(uint32_t bits) : bits_(bits) {}
  uint32_t bits_ = 0;
};
static_assert(sizeof(RmapHead) == 4);

// 28 bits that tell one list from another. A descriptor carries those of the
// list that it belongs to, and removal compares them: an spte that is taken
// off with another key than it was put on with is found out at once, instead
// of corrupting somebody else's list.
class OwnerTag {
 public:
  static constexpr unsigned kBits = 28;
  constexpr OwnerTag() = default;
  constexpr explicit OwnerTag(uint64_t value)
      : bits_(static_cast<uint32_t>(value) & ((1u << kBits) - 1)) {}
  constexpr uint32_t bits() const { return bits_; }
  friend constexpr bool operator==(OwnerTag, OwnerTag) = default;

 private:
  uint32_t bits_ = 0;
};

}  // namespace shadowmmu

#endif  // SHADOWMMU_RMAP_RMAP_HEAD_H_
