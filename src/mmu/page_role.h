// PageRole: everything besides the gfn that decides what a shadow page holds.
// Two faults may share a shadow page if and only if gfn and role are equal.
//
//  1. Rights are those that the entries above the page have left: a guest
//     table reached over a read-only entry is another shadow page than the
//     same table reached over a writable one.
//  2. Nothing about a page's life (obsolete, invalid, pinned) is in here: a
//     child takes its role from its parent, and must not inherit that.
//
//   bit  0     2 3      4        5    8     9
//       | level | space | direct | rights | no_execute | (room to 32) |
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

// EFER.NXE of the guest: without it bit 63 is reserved, so tables that were
// shadowed with it must not be reused.
enum class NoExecute : uint8_t { kDisabled, kEnabled };

class PageRole {
 public:
  constexpr PageRole() = default;
  constexpr PageRole(Level level, AddressSpace space, PageKind kind,
                     Rights rights, NoExecute nx)
      : bits_(ToInt(level) | ToInt(space) << 3 |
              static_cast<uint32_t>(kind) << 4 | rights.bits() << 5 |
              static_cast<uint32_t>(nx) << 8) {}

  constexpr Level level() const { return LevelFromInt(bits_ & 7); }
  constexpr AddressSpace space() const {
    return static_cast<AddressSpace>(bits_ >> 3 & 1);
  }
  constexpr PageKind kind() const {
    return static_cast<PageKind>(bits_ >> 4 & 1);
  }
  constexpr bool direct() const { return kind() == PageKind::kDirect; }
  constexpr Rights rights() const { return Rights(bits_ >> 5 & 7); }
  constexpr NoExecute no_execute() const {
    return static_cast<NoExecute>(bits_ >> 8 & 1);
  }

  // The role of a page one level down, of this kind, with these rights.
  constexpr PageRole Child(PageKind kind, Rights rights) const {
    // The level is in the lowest bits; space and NX stay.
    PageRole child;
    child.bits_ = ((bits_ - 1) & ~kKindAndRights) |
                  static_cast<uint32_t>(kind) << 4 | rights.bits() << 5;
    return child;
  }

  friend constexpr bool operator==(PageRole, PageRole) = default;
  friend std::ostream& operator<<(std::ostream& os, PageRole role) {
    return os << "level " << role.level() << ", " << role.space() << ", "
              << (role.direct() ? "direct" : "indirect") << ", "
              << role.rights()
              << (role.no_execute() == NoExecute::kEnabled ? ", nxe" : "");
  }

 private:
  static constexpr uint32_t kKindAndRights = 1u << 4 | 7u << 5;

  uint32_t bits_ = 0;
};
static_assert(sizeof(PageRole) == 4);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_PAGE_ROLE_H_
