// Spte: one entry of a shadow page table, as the CPU reads it; and SpteFormat,
// which knows how this host's CPU wants it.
//
//   63 62..59 58..52 51 ............. 12 11..9 8 7  6 5 4   3   2 1 0
//   NX  PKEY  ignored  address           ign.  G PS D A PCD PWT U W P
//
// (SDM vol. 3, 4.5.4, tables 4-14 to 4-20; APM vol. 2, 5.3.) PS marks a leaf
// above level 4K. Intermediate entries grant everything: what the guest's upper
// entries take away is in the role, and so in the leaf.
//
// Thread safety: values; a SpteFormat does not change after it is made.

#ifndef SHADOWMMU_MMU_SPTE_H_
#define SHADOWMMU_MMU_SPTE_H_

#include <cstdint>
#include <ostream>

#include "shadowmmu/address.h"
#include "shadowmmu/host.h"
#include "src/mmu/permission.h"

namespace shadowmmu {

namespace pte {
inline constexpr uint64_t kPresent = uint64_t{1} << 0;
inline constexpr uint64_t kWritable = uint64_t{1} << 1;
inline constexpr uint64_t kUser = uint64_t{1} << 2;
inline constexpr uint64_t kWriteThrough = uint64_t{1} << 3;
inline constexpr uint64_t kCacheDisable = uint64_t{1} << 4;
inline constexpr uint64_t kAccessed = uint64_t{1} << 5;
inline constexpr uint64_t kDirty = uint64_t{1} << 6;
inline constexpr uint64_t kPageSize = uint64_t{1} << 7;
inline constexpr uint64_t kNoExecute = uint64_t{1} << 63;
// Address bits of any entry, before MAXPHYADDR cuts them.
inline constexpr uint64_t kAddress = 0x000f'ffff'ffff'f000;
}  // namespace pte

// Whether the CPU sees the entry as written: D is then set, too.
enum class Dirty : uint8_t { kNo, kYes };

class Spte {
 public:
  constexpr Spte() = default;
  constexpr explicit Spte(uint64_t bits) : bits_(bits) {}
  constexpr uint64_t bits() const { return bits_; }

  constexpr bool present() const { return (bits_ & pte::kPresent) != 0; }
  // Precondition of the rest: present.
  constexpr bool leaf(Level level) const {
    return level == Level::k4K || (bits_ & pte::kPageSize) != 0;
  }
  // The same where it is known that the level is above k4K.
  constexpr bool large() const { return (bits_ & pte::kPageSize) != 0; }
  constexpr bool writable() const { return (bits_ & pte::kWritable) != 0; }
  constexpr bool accessed() const { return (bits_ & pte::kAccessed) != 0; }
  constexpr bool dirty() const { return (bits_ & pte::kDirty) != 0; }
  constexpr Rights rights() const {
    return Rights((writable() ? Rights::kWrite : 0) |
                  ((bits_ & pte::kUser) != 0 ? Rights::kUser : 0) |
                  ((bits_ & pte::kNoExecute) == 0 ? Rights::kExecute : 0));
  }

  friend constexpr bool operator==(Spte, Spte) = default;

 private:
  uint64_t bits_ = 0;
};

class SpteFormat {
 public:
  explicit constexpr SpteFormat(const EntryFormat& format)
      : format_(format),
        address_mask_(pte::kAddress &
                      ((uint64_t{1} << format.physical_bits) - 1) &
                      ~format.encryption_bit) {}

  Spte Leaf(Pfn pfn, Level level, Rights rights, MemoryType type,
            Dirty dirty) const {
    uint64_t bits = pte::kPresent | pte::kAccessed | ToHpa(pfn).value() |
                    format_.encryption_bit;
    if (rights.write()) bits |= pte::kWritable;
    if (rights.user()) bits |= pte::kUser;
    if (!rights.execute()) bits |= pte::kNoExecute;
    if (dirty == Dirty::kYes) bits |= pte::kDirty;
    if (level != Level::k4K) bits |= pte::kPageSize;
    // PAT entry 3, uncacheable at reset (SDM vol. 3, 12.12.4).
    if (type == MemoryType::kUncacheable) {
      bits |= pte::kWriteThrough | pte::kCacheDisable;
    }
    return Spte(bits);
  }
  Spte Table(Hpa table) const {
    return Spte(pte::kPresent | pte::kWritable | pte::kUser | pte::kAccessed |
                table.value() | format_.encryption_bit);
  }
  // An entry of a PAE root: P and an address, no W or U (SDM vol. 3, 4.4.1).
  Spte PaeRoot(Hpa table) const {
    return Spte(pte::kPresent | table.value() | format_.encryption_bit);
  }
  Spte NotPresent() const { return Spte(format_.not_present_value); }

  Hpa TableOf(Spte spte) const { return Hpa(spte.bits() & address_mask_); }
  Pfn PfnOf(Spte spte, Level level) const {
    return AlignDown(ToPfn(Hpa(spte.bits() & address_mask_)), level);
  }

  // Bits that must be clear in a present entry of `level`, on the CPU that
  // walks it (SDM vol. 3, 4.4.2 and 4.5.4, "reserved").
  uint64_t ReservedBits(Spte spte, Level level) const;

 private:
  EntryFormat format_;
  uint64_t address_mask_;
};

inline uint64_t SpteFormat::ReservedBits(Spte spte, Level level) const {
  uint64_t reserved = pte::kAddress & ~address_mask_ & ~format_.encryption_bit;
  if (!format_.has_no_execute) reserved |= pte::kNoExecute;
  if (level >= Level::k512G) reserved |= pte::kPageSize;
  if (level == Level::k1G && !format_.has_1g_pages) reserved |= pte::kPageSize;
  if (level > Level::k4K && spte.leaf(level)) {
    // Between the PAT bit (12) and the address of a large page.
    reserved |= (BytesPerEntry(level) - 1) & ~((uint64_t{1} << 13) - 1);
  }
  return reserved;
}

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_SPTE_H_
