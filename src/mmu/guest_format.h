// GuestFormat: how the entries of a guest's page tables are read, as data for
// the one walker (guest_walk.h): how long they are, which bits of each level
// are reserved, where a large page may be, and where entries lead.
//
//               levels  entry    leaves            (SDM vol. 3)
//   32-bit      2       4 bytes  4K, 4M            4.3
//   PAE         2 + 1   8 bytes  4K, 2M            4.4  (the top is registers)
//   four-level  4       8 bytes  4K, 2M, 1G        4.5
//   five-level  5       8 bytes  4K, 2M, 1G        4.5
//
// A page of 4 MiB is a leaf of level k2M that covers two shadow entries.
//
// Thread safety: values.

#ifndef SHADOWMMU_MMU_GUEST_FORMAT_H_
#define SHADOWMMU_MMU_GUEST_FORMAT_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "shadowmmu/address.h"
#include "src/mmu/page_role.h"
#include "src/mmu/permission.h"
#include "src/mmu/spte.h"

namespace shadowmmu {

inline constexpr unsigned kMaxLevels = 5;

class GuestFormat {
 public:
  // Paging is off: there are no entries.
  constexpr GuestFormat() = default;
  // `levels` of tables in memory; `physical_bits`: the guest's MAXPHYADDR.
  GuestFormat(GuestRules rules, unsigned levels, unsigned physical_bits);

  unsigned levels() const { return levels_; }
  bool off() const { return levels_ == 0; }
  // Of the tables that CR3, or a PDPTE, names. Precondition: !off().
  Level root_level() const { return LevelFromInt(levels_); }
  // 4 or 8.
  unsigned entry_bytes() const { return entry_bytes_; }
  // Linear address bits that the tables in memory translate; 32 without any.
  unsigned linear_bits() const {
    return off() ? 32 : kPageShift + levels_ * index_bits_;
  }

  // Where the entry of `gva` lies in a table of `level`, in bytes.
  unsigned OffsetOfEntry(Gva gva, Level level) const {
    const uint64_t index = gva.value() >> ShiftOf(level);
    return static_cast<unsigned>(index & ((1u << index_bits_) - 1)) *
           entry_bytes_;
  }
  // Bits of a present entry that are set and must not be.
  uint64_t ReservedBitsSet(uint64_t gpte, Level level) const {
    const bool page_size = (gpte & pte::kPageSize) != 0;
    return gpte & reserved_[ToInt(level)][page_size ? 1 : 0];
  }
  // Of a present, well-formed entry:
  bool IsLeaf(uint64_t gpte, Level level) const {
    return level == Level::k4K || ((gpte & pte::kPageSize) != 0 &&
                                   (large_levels_ >> ToInt(level) & 1) != 0);
  }
  // Of the table, or the page of 4 KiB, that the entry leads to.
  static Gfn GfnOf(uint64_t gpte) {
    return Gfn((gpte & pte::kAddress) >> kPageShift);
  }
  // The frame of `gva` in the page that the leaf maps.
  Gfn FrameOf(uint64_t gpte, Level level, Gva gva) const {
    const uint64_t mask = (uint64_t{1} << (ShiftOf(level) - kPageShift)) - 1;
    uint64_t frame = (gpte & pte::kAddress) >> kPageShift;
    if (entry_bytes_ == 4 && level == Level::k2M) {
      // PSE-36: bits 20:13 are address bits 39:32 (SDM vol. 3, table 4-4).
      frame |= (gpte >> 13 & 0xff) << (32 - kPageShift);
    }
    return Gfn((frame & ~mask) | (gva.value() >> kPageShift & mask));
  }
  static Rights RightsOf(uint64_t gpte) {
    uint32_t bits = 0;
    if ((gpte & pte::kWritable) != 0) bits |= Rights::kWrite;
    if ((gpte & pte::kUser) != 0) bits |= Rights::kUser;
    // Without NXE bit 63 is reserved, and clear here.
    if ((gpte & pte::kNoExecute) == 0) bits |= Rights::kExecute;
    return Rights(bits);
  }
  // Zero outside long mode, where the bits are reserved or not there.
  static unsigned KeyOf(uint64_t gpte) {
    return static_cast<unsigned>(gpte >> pte::kKeyShift & 15);
  }

  // ---- Entries that no walk has come to ----

  // Bits of a present entry of a page table (level k4K) that must not be set.
  // Page tables are read alike in every mode of the same rules.
  static uint64_t ReservedInPageTable(GuestRules rules, unsigned physical_bits);
  // Whether a CPU would use the entry as it is, without an A bit to set.
  static bool UsableAsItIs(uint64_t gpte, uint64_t reserved) {
    constexpr uint64_t kNeeded = pte::kPresent | pte::kAccessed;
    return (gpte & kNeeded) == kNeeded && (gpte & reserved) == 0;
  }
  // What it allows, below a table of `role`, without a D bit to set.
  static Rights RightsAsItIs(PageRole role, uint64_t gpte) {
    const Rights rights = role.rights() & RightsOf(gpte);
    return (gpte & pte::kDirty) != 0 ? rights : rights.WithoutWrite();
  }

 private:
  unsigned ShiftOf(Level level) const {
    return kPageShift + (ToInt(level) - 1) * index_bits_;
  }

  unsigned levels_ = 0;
  unsigned entry_bytes_ = 8;
  unsigned index_bits_ = kIndexBits;
  unsigned large_levels_ = 0;  // bit n: PS makes an entry of level n a leaf
  // By level, and by whether PS is set.
  std::array<std::array<uint64_t, 2>, kMaxLevels + 1> reserved_ = {};
};

// 4 or 8.
constexpr unsigned EntryBytesOf(EntryLayout layout) {
  return layout == EntryLayout::k32Bit ? 4 : 8;
}

// The entries of a shadow page that are made from `bytes` bytes of its guest
// table, from `offset` on: [first, end). Precondition: the page is indirect,
// and the bytes lie within one table.
struct EntryRange {
  unsigned first = 0;
  unsigned end = 0;
};
EntryRange EntriesMadeFrom(PageRole role, size_t offset, size_t bytes);

// The other way round: where the entry that entry `index` of the shadow page is
// made from lies in its guest table, in bytes. Precondition: as above.
unsigned OffsetOfGuestEntry(PageRole role, unsigned index);

// Whether a store of `bytes` bytes at `offset` of a guest table may be a
// kernel's edit of one entry: the entry as a whole; an aligned half of 4 bytes,
// as 32-bit kernels write those of PAE paging; or its first byte alone, where
// the present, accessed and dirty bits are, and what compilers make of setting
// one of these. What is anything else writes data into a page that is a table
// no longer.
bool MayEditEntry(EntryLayout layout, size_t offset, size_t bytes);

// Which of the shadow pages of a 4-byte table at `level` maps `gva`; 0 for
// other tables.
inline unsigned QuadrantOf(GuestRules rules, Gva gva, Level level) {
  if (rules.layout() != EntryLayout::k32Bit) return 0;
  return level == Level::k2M ? static_cast<unsigned>(gva.value() >> 30 & 3)
                             : static_cast<unsigned>(gva.value() >> 21 & 1);
}

// The same of the child that entry `index` of a page of `role` links.
inline unsigned QuadrantOfChild(PageRole role, unsigned index) {
  return role.rules().layout() == EntryLayout::k32Bit ? index & 1 : 0;
}

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_GUEST_FORMAT_H_
