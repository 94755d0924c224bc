// Rights: what an entry, or a chain of entries, allows: writing, access from
// user mode, fetching instructions. Reading is what being present allows.
//
// Rights of a translation are the intersection of those of every entry that
// led to it (SDM vol. 3, 4.6.1; APM vol. 2, 5.6.6).
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

// Whether `rights` allow `access`, with CR0.WP set (SDM vol. 3, 4.6.1).
constexpr bool Allow(Rights rights, const Access& access) {
  const bool user =
      access.privilege == Privilege::kUser && access.implicit == Implicit::kNo;
  if (user && !rights.user()) return false;
  switch (access.type) {
    case AccessType::kRead:
      return true;
    case AccessType::kWrite:
      return rights.write();
    case AccessType::kFetch:
      return rights.execute();
  }
  return false;
}

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_PERMISSION_H_
