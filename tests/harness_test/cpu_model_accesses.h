// What the tests of the CPU model's rights and features have in common: short
// names of bits, accesses with one thing changed, a CPU that has everything.

#ifndef SHADOWMMU_TESTS_HARNESS_TEST_CPU_MODEL_ACCESSES_H_
#define SHADOWMMU_TESTS_HARNESS_TEST_CPU_MODEL_ACCESSES_H_

#include <cstdint>

#include "tests/harness/cpu_model.h"

namespace shadowmmu::testing {

inline constexpr uint64_t kUserPage = hw_entry::kUser;
inline constexpr uint64_t kUserWritable = hw_entry::kUser | hw_entry::kWritable;
inline constexpr uint64_t kSystemWritable = hw_entry::kWritable;
inline constexpr uint64_t kSmep = cr4::kSmep;
inline constexpr uint64_t kSmap = cr4::kSmap;
inline constexpr uint64_t kPke = cr4::kPke;

inline constexpr uint32_t kP = pf_error::kPresent;
inline constexpr uint32_t kW = pf_error::kWrite;
inline constexpr uint32_t kU = pf_error::kUser;
inline constexpr uint32_t kI = pf_error::kFetch;
inline constexpr uint32_t kPk = pf_error::kProtectionKey;

constexpr uint64_t Key(uint64_t key) { return key << hw_entry::kKeyShift; }
constexpr uint32_t AccessDisable(unsigned key) { return 1u << (2 * key); }
constexpr uint32_t WriteDisable(unsigned key) { return 2u << (2 * key); }

inline constexpr Privilege kUserMode = Privilege::kUser;
inline constexpr Privilege kSystem = Privilege::kSupervisor;

constexpr Access WithAc(Access access) {
  access.eflags_ac = true;
  return access;
}
constexpr Access WithPkru(Access access, uint32_t pkru) {
  access.pkru = pkru;
  return access;
}
// One that the CPU makes on its own while at `privilege`.
constexpr Access MadeImplicit(Access access) {
  access.implicit = Implicit::kYes;
  return access;
}

inline EntryFormat FullFormat() {
  EntryFormat format;
  format.has_smep = true;
  format.has_smap = true;
  format.has_protection_keys = true;
  format.has_five_levels = true;
  return format;
}

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_TEST_CPU_MODEL_ACCESSES_H_
