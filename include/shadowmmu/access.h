// One memory access of a guest, as the CPU sees it: what the permission checks
// of Intel SDM vol. 3, 4.6 and AMD APM vol. 2, 5.6 depend on, besides the
// tables and the control registers.

#ifndef SHADOWMMU_ACCESS_H_
#define SHADOWMMU_ACCESS_H_

#include <cstdint>
#include <iosfwd>
#include <optional>

namespace shadowmmu {

enum class AccessType : uint8_t { kRead, kWrite, kFetch };

// User is CPL 3, supervisor every other CPL.
enum class Privilege : uint8_t { kUser, kSupervisor };

// An implicit supervisor access is one that the CPU makes to a system data
// structure (a descriptor table, a TSS) whatever the CPL is.
enum class Implicit : uint8_t { kNo, kYes };

// Bits of a page fault's error code (SDM vol. 3, 4.7; APM vol. 2, 8.4.2).
namespace pf_error {
inline constexpr uint32_t kPresent = 1u << 0;
inline constexpr uint32_t kWrite = 1u << 1;
inline constexpr uint32_t kUser = 1u << 2;
inline constexpr uint32_t kReserved = 1u << 3;
inline constexpr uint32_t kFetch = 1u << 4;
inline constexpr uint32_t kProtectionKey = 1u << 5;
}  // namespace pf_error

struct Access {
  AccessType type = AccessType::kRead;
  Privilege privilege = Privilege::kSupervisor;
  Implicit implicit = Implicit::kNo;
  // EFLAGS.AC: with CR4.SMAP, lets supervisor code touch user pages.
  bool eflags_ac = false;
  // The guest's PKRU register; matters only with CR4.PKE. It must be what the
  // CPU had: an access that the library would allow and the CPU would not
  // faults for ever.
  uint32_t pkru = 0;
  // The error code that the CPU reported for this access when it walked the
  // shadow tables; absent when there was none (an emulated access, a
  // pre-fault). A hint: the library decides by the guest's tables. But it must
  // be the CPU's own: a store that the CPU says it may not make to a page that
  // is there, where only the dirty log protects the page, is resolved by that
  // alone; where something else forbids it, too, the CPU's next fault says so.
  std::optional<uint32_t> reported_error = std::nullopt;
};

constexpr Access Read(Privilege privilege = Privilege::kSupervisor) {
  return Access{.type = AccessType::kRead, .privilege = privilege};
}
constexpr Access Write(Privilege privilege = Privilege::kSupervisor) {
  return Access{.type = AccessType::kWrite, .privilege = privilege};
}
constexpr Access Fetch(Privilege privilege = Privilege::kSupervisor) {
  return Access{.type = AccessType::kFetch, .privilege = privilege};
}

std::ostream& operator<<(std::ostream& os, AccessType type);
std::ostream& operator<<(std::ostream& os, const Access& access);

}  // namespace shadowmmu

#endif  // SHADOWMMU_ACCESS_H_
