// SpteRef: names one shadow page table entry in 31 bits: the table's index in
// the arena, and the entry's index in the table. Half of a pointer, so that
// rmap heads take 4 bytes and a descriptor of 14 fits one cache line.
//
//  1. Table 0 does not exist: the all-zero reference is nil.
//  2. Bit 31 is never set: RmapHead uses it.

#ifndef SHADOWMMU_RMAP_SPTE_REF_H_
#define SHADOWMMU_RMAP_SPTE_REF_H_

#include <cstdint>
#include <ostream>

#include "shadowmmu/address.h"

namespace shadowmmu {

// The index of a shadow page in the arena; 0 is nil.
enum class TableIndex : uint32_t { kNil = 0 };
constexpr uint32_t ToInt(TableIndex table) {
  return static_cast<uint32_t>(table);
}

// The most tables that an arena may have, the nil one included.
inline constexpr uint32_t kMaxTables = uint32_t{1} << 22;

class SpteRef {
 public:
  constexpr SpteRef() = default;
  constexpr SpteRef(TableIndex table, unsigned index)
      : bits_((ToInt(table) << kIndexBits) | index) {}
  static constexpr SpteRef FromBits(uint32_t bits) {
    SpteRef ref;
    ref.bits_ = bits;
    return ref;
  }

  constexpr TableIndex table() const {
    return static_cast<TableIndex>(bits_ >> kIndexBits);
  }
  constexpr unsigned index() const { return bits_ & (kEntriesPerTable - 1); }
  constexpr uint32_t bits() const { return bits_; }
  constexpr bool nil() const { return bits_ == 0; }

  friend constexpr bool operator==(SpteRef, SpteRef) = default;
  friend std::ostream& operator<<(std::ostream& os, SpteRef ref) {
    return os << "spte " << ToInt(ref.table()) << "[" << ref.index() << "]";
  }

 private:
  uint32_t bits_ = 0;
};
static_assert(sizeof(SpteRef) == 4);

}  // namespace shadowmmu

#endif  // SHADOWMMU_RMAP_SPTE_REF_H_
