// Rights: what an entry, or a chain of entries, allows: writing, access from
// user mode, fetching instructions. Reading is what being present allows.
//
// Rights of a translation are the intersection of those of every entry that
// led to it (SDM vol. 3, 4.6.1; APM vol. 2, 5.6.6). The control registers
// decide what an access may do with them.
//
// Fix-ups. The CPU that walks the shadow tables always has CR0.WP set. What a
// guest with WP clear lets its supervisor code do beyond that, write pages that
// are read-only or whose key forbids writing, it gets by an entry that is
// writable and a supervisor one: user code faults on it, and gets the entry
// that the guest's tables give it.
//
// Thread safety: values.

#ifndef SHADOWMMU_MMU_PERMISSION_H_
#define SHADOWMMU_MMU_PERMISSION_H_

#include <cstdint>
#include <ostream>

#include "shadowmmu/access.h"

namespace shadowmmu {

class Rights {
 public:
  static constexpr uint32_t kWrite = 1;
  static constexpr uint32_t kUser = 2;
  static constexpr uint32_t kExecute = 4;

  constexpr Rights() = default;  // none: supervisor reads only
  constexpr explicit Rights(uint32_t bits) : bits_(bits) {}
  static constexpr Rights All() { return Rights(kWrite | kUser | kExecute); }

  constexpr bool write() const { return (bits_ & kWrite) != 0; }
  constexpr bool user() const { return (bits_ & kUser) != 0; }
  constexpr bool execute() const { return (bits_ & kExecute) != 0; }
  constexpr uint32_t bits() const { return bits_; }

  constexpr Rights WithoutWrite() const { return Rights(bits_ & ~kWrite); }
  constexpr bool Includes(Rights other) const {
    return (other.bits_ & ~bits_) == 0;
  }
  friend constexpr Rights operator&(Rights a, Rights b) {
    return Rights(a.bits_ & b.bits_);
  }
  friend constexpr bool operator==(Rights, Rights) = default;
  friend std::ostream& operator<<(std::ostream& os, Rights rights) {
    return os << (rights.write() ? 'w' : '-') << (rights.user() ? 'u' : '-')
              << (rights.execute() ? 'x' : '-');
  }

 private:
  uint32_t bits_ = 0;
};

// The guest's control registers, as far as they change what rights mean.
struct PermissionRules {
  bool write_protect = true;     // CR0.WP
  bool smep = false;             // CR4.SMEP
  bool smap = false;             // CR4.SMAP
  bool protection_keys = false;  // CR4.PKE, in long mode
};

// A user-mode access: one at CPL 3 that the CPU does not make on its own behalf
// (SDM vol. 3, 4.6).
constexpr bool IsUserMode(const Access& access) {
  return access.privilege == Privilege::kUser &&
         access.implicit == Implicit::kNo;
}

// Whether PKRU forbids `access` to a page of protection key `key` (SDM vol. 3,
// 4.6.2; APM vol. 2, 5.6.7): data accesses to user pages only.
constexpr bool KeyDenies(Rights rights, unsigned key, const Access& access,
                         const PermissionRules& rules) {
  if (!rules.protection_keys || !rights.user() ||
      access.type == AccessType::kFetch) {
    return false;
  }
  const uint32_t bits = access.pkru >> (2 * key);
  if ((bits & 1) != 0) return true;                               // AD
  return (bits & 2) != 0 && access.type == AccessType::kWrite &&  // WD
         (rules.write_protect || IsUserMode(access));
}

// Whether `rights` allow `access`, keys apart (SDM vol. 3, 4.6.1).
constexpr bool RightsAllow(Rights rights, const Access& access,
                           const PermissionRules& rules) {
  const bool user = IsUserMode(access);
  const bool fetch = access.type == AccessType::kFetch;
  if (user) {
    if (!rights.user()) return false;
  } else if (rights.user()) {
    if (fetch ? rules.smep
              : rules.smap &&
                    (access.implicit == Implicit::kYes || !access.eflags_ac)) {
      return false;
    }
  }
  if (fetch) return rights.execute();
  return access.type == AccessType::kRead || rights.write() ||
         (!user && !rules.write_protect);
}

// Whether `access`, which is allowed, takes a fix-up.
constexpr bool NeedsFixUp(Rights rights, unsigned key, const Access& access,
                          const PermissionRules& rules) {
  if (rules.write_protect || access.type != AccessType::kWrite ||
      IsUserMode(access)) {
    return false;
  }
  PermissionRules walking = rules;
  walking.write_protect = true;
  return !rights.write() || KeyDenies(rights, key, access, walking);
}

// The rights of a fix-up: none that user code could use; and no fetching where
// SMEP forbids it, since to the walking CPU this is no user page any more.
constexpr Rights FixUp(Rights rights, const PermissionRules& rules) {
  const bool execute = rights.execute() && !(rights.user() && rules.smep);
  return Rights(Rights::kWrite | (execute ? Rights::kExecute : 0));
}

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_PERMISSION_H_
