// PageRole: everything besides the gfn that decides what a shadow page holds.
// Two faults may share a shadow page if and only if gfn and role are equal.
//
//  1. Rights are those that the entries above the page have left: a guest
//     table reached over a read-only entry is another shadow page than the
//     same table reached over a writable one.
//  2. Nothing about a page's life (obsolete, invalid, pinned) is in here: a
//     child takes its role from its parent, and must not inherit that.
//  3. A table of 4-byte entries has 1024 of them and takes several shadow pages
//     of 512: the quadrant says which part. A guest page directory takes four
//     (each of its entries becomes two of 2 MiB), a page table two.
//  4. A direct page below a large guest page has the protection key of that
//     page; every other page has 0.
//  5. With CR0.WP clear a direct page below a large guest page whose D bit is
//     clear is another than one where it is set: in that one there may be
//     fix-ups left, which are writable (permission.h).
//
//   bit  0     2 3      4        5    7 8   16 17     18 19 22 23
//       | level | space | direct | rights | rules | quadrant | key | clean |
//
// Thread safety: values.

#ifndef SHADOWMMU_MMU_PAGE_ROLE_H_
#define SHADOWMMU_MMU_PAGE_ROLE_H_

#include <cstdint>
#include <ostream>

#include "shadowmmu/address.h"
#include "src/mmu/permission.h"

namespace shadowmmu {

// A direct page has no guest table behind it: its entry i maps gfn + i * (the
// pages an entry maps). An indirect one shadows the guest table in its gfn.
enum class PageKind : uint8_t { kIndirect, kDirect };

// The three layouts of a guest's entries: 8 bytes in long mode; 8 bytes with
// PAE paging, where more bits are reserved; 4 bytes without. With paging off
// there are none, and the shadow tables are those of PAE paging.
enum class EntryLayout : uint8_t { kLong, kPae, k32Bit };

// What the registers and features of a vCPU add to the meaning of a guest
// entry. What was shadowed under other rules must not be reused.
class GuestRules {
 public:
  static constexpr uint32_t kNoExecute = 1u << 2;   // NXE: bit 63 is legal
  static constexpr uint32_t kLargePages = 1u << 3;  // 4M (PSE); 1G
  static constexpr uint32_t kPse36 = 1u << 4;
  // CR0.WP is clear, so there may be fix-ups (permission.h); and what these
  // depend on. With WP set the walking CPU does the rest by itself.
  static constexpr uint32_t kFixUps = 1u << 5;
  static constexpr uint32_t kFixUpsSmep = 1u << 6;
  static constexpr uint32_t kFixUpsSmap = 1u << 7;
  static constexpr uint32_t kFixUpsKeys = 1u << 8;

  constexpr GuestRules() = default;
  constexpr GuestRules(EntryLayout layout, uint32_t flags)
      : bits_(static_cast<uint32_t>(layout) | flags) {}
  static constexpr GuestRules FromBits(uint32_t bits) {
    return GuestRules(EntryLayout::kLong, bits);
  }

  constexpr EntryLayout layout() const {
    return static_cast<EntryLayout>(bits_ & 3);
  }
  constexpr bool Has(uint32_t flag) const { return (bits_ & flag) != 0; }
  constexpr uint32_t bits() const { return bits_; }

  friend constexpr bool operator==(GuestRules, GuestRules) = default;
  friend std::ostream& operator<<(std::ostream& os, GuestRules rules);

 private:
  uint32_t bits_ = 0;
};

class PageRole {
 public:
  constexpr PageRole() = default;
  constexpr PageRole(Level level, AddressSpace space, PageKind kind,
                     Rights rights, GuestRules rules, unsigned quadrant = 0)
      : bits_(ToInt(level) | ToInt(space) << 3 |
              static_cast<uint32_t>(kind) << 4 | rights.bits() << 5 |
              rules.bits() << 8 | quadrant << 17) {}

  constexpr Level level() const { return LevelFromInt(bits_ & 7); }
  constexpr AddressSpace space() const {
    return static_cast<AddressSpace>(bits_ >> 3 & 1);
  }
  constexpr PageKind kind() const {
    return static_cast<PageKind>(bits_ >> 4 & 1);
  }
  constexpr bool direct() const { return kind() == PageKind::kDirect; }
  constexpr Rights rights() const { return Rights(bits_ >> 5 & 7); }
  constexpr GuestRules rules() const {
    return GuestRules::FromBits(bits_ >> 8 & 0x1ff);
  }
  constexpr unsigned quadrant() const { return bits_ >> 17 & 3; }
  constexpr unsigned key() const { return bits_ >> 19 & 15; }
  constexpr bool clean() const { return (bits_ >> 23 & 1) != 0; }
  // The CPU reads the page as one of PAE paging.
  constexpr bool pae() const { return rules().layout() != EntryLayout::kLong; }

  // The role of a page one level down: an indirect one that shadows a guest
  // table, or a direct one. Space and rules stay.
  constexpr PageRole IndirectChild(Rights rights, unsigned quadrant) const {
    return Child(PageKind::kIndirect, rights, quadrant << 17);
  }
  constexpr PageRole DirectChild(Rights rights, unsigned key,
                                 bool clean = false) const {
    return Child(PageKind::kDirect, rights,
                 key << 19 | (clean ? uint32_t{1} << 23 : 0));
  }

  friend constexpr bool operator==(PageRole, PageRole) = default;
  friend std::ostream& operator<<(std::ostream& os, PageRole role);

 private:
  // Level, space and rules.
  static constexpr uint32_t kKept = 0xf | 0x1ff << 8;

  constexpr PageRole Child(PageKind kind, Rights rights, uint32_t rest) const {
    PageRole child;
    // The level is in the lowest bits.
    child.bits_ = ((bits_ & kKept) - 1) | static_cast<uint32_t>(kind) << 4 |
                  rights.bits() << 5 | rest;
    return child;
  }

  uint32_t bits_ = 0;
};
static_assert(sizeof(PageRole) == 4);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_PAGE_ROLE_H_
