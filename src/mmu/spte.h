// Spte: one entry of a shadow page table, as the CPU reads it; and SpteFormat,
// which knows how this host's CPU wants it.
//
//   63 62..59 58..52 51 ............. 12 11..10 9 8 7  6 5 4   3   2 1 0
//   NX  PKEY  ignored  address           ign.   L G PS D A PCD PWT U W P
//
// (SDM vol. 3, 4.5.4, tables 4-14 to 4-20; APM vol. 2, 5.3.) Outside long mode
// the CPU walks PAE tables, where bits 62 to 52 are reserved (SDM vol. 3,
// 4.4.2). PS marks a leaf above level 4K. L, which the CPU ignores, marks a
// leaf that would be writable if its slot did not log. Intermediate entries
// grant everything: what the guest's upper entries take away is in the role,
// and so in the leaf.
//
// Thread safety: values; a SpteFormat does not change after it is made.

#ifndef SHADOWMMU_MMU_SPTE_H_
#define SHADOWMMU_MMU_SPTE_H_

#include <cstdint>
#include <ostream>

#include "shadowmmu/address.h"
#include "shadowmmu/host.h"
#include "src/mmu/page_role.h"
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
inline constexpr uint64_t kLogProtected = uint64_t{1} << 9;
// At most one of these is set.
inline constexpr uint64_t kMayWrite = kWritable | kLogProtected;
inline constexpr uint64_t kNoExecute = uint64_t{1} << 63;
inline constexpr unsigned kKeyShift = 59;
inline constexpr uint64_t kKey = uint64_t{15} << kKeyShift;
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
  // Whether only the dirty log keeps a leaf from being writable.
  constexpr bool log_protected() const {
    return (bits_ & pte::kLogProtected) != 0;
  }
  // Whether a leaf is writable, or may become so with no look at the guest's
  // tables, at the Host, or at what is tracked.
  constexpr bool may_write() const { return (bits_ & pte::kMayWrite) != 0; }
  // The protection key of a leaf, which counts in long mode only.
  constexpr unsigned key() const {
    return static_cast<unsigned>((bits_ & pte::kKey) >> pte::kKeyShift);
  }
  constexpr Rights rights() const {
    return Rights((writable() ? Rights::kWrite : 0) |
                  ((bits_ & pte::kUser) != 0 ? Rights::kUser : 0) |
                  ((bits_ & pte::kNoExecute) == 0 ? Rights::kExecute : 0));
  }

  // What it may allow: rights() and, if it is log_protected(), to write.
  constexpr Rights rights_at_most() const {
    return log_protected() ? LogProtectionLifted().rights() : rights();
  }

  // A leaf that is not writable, for no other reason than the dirty log.
  constexpr Spte LogProtected() const {
    return Spte(bits_ | pte::kLogProtected);
  }
  constexpr Spte LogProtectionLifted() const {
    return Spte((bits_ & ~pte::kLogProtected) | pte::kWritable);
  }
  // The same, as the CPU finds what it has not used.
  constexpr Spte NotAccessed() const { return Spte(bits_ & ~pte::kAccessed); }

  friend constexpr bool operator==(Spte, Spte) = default;

 private:
  uint64_t bits_ = 0;
};

class SpteFormat {
 public:
  explicit SpteFormat(const EntryFormat& format);

  // Precondition: in a PAE table the key is 0.
  Spte Leaf(Pfn pfn, Level level, Rights rights, unsigned key, MemoryType type,
            Dirty dirty) const {
    uint64_t bits = pte::kPresent | pte::kAccessed | ToHpa(pfn).value() |
                    format_.encryption_bit | uint64_t{key} << pte::kKeyShift;
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

  // Bits of a present entry in a table of `role` that are set, and must not be
  // on the CPU that walks it (SDM vol. 3, 4.4.2 and 4.5.4, "reserved").
  uint64_t ReservedBitsSet(Spte spte, PageRole role) const {
    // No large page, no key: nothing that some table would reserve.
    if ((spte.bits() & suspect_) == 0) return 0;
    return spte.bits() &
           reserved_[role.pae() ? 1 : 0][ToInt(role.level())][spte.large()];
  }
  // The same of an entry of a PAE root (SDM vol. 3, 4.4.1).
  uint64_t ReservedBitsSetInRoot(Spte spte) const;

 private:
  uint64_t ReservedBits(bool pae, Level level, bool page_size) const;

  EntryFormat format_;
  uint64_t address_mask_;
  // By whether the table is one of PAE paging, by level, by whether PS is set.
  uint64_t reserved_[2][6][2] = {};
  uint64_t suspect_ = 0;  // PS, and what is reserved where it is clear
};

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_SPTE_H_
