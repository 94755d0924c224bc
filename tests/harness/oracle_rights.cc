// The oracle's rights: what a page that a walk has led to allows. Written down
// from the manuals once more; it shares no code with the library.

#include "tests/harness/oracle.h"
#include "tests/harness/oracle_registers.h"

namespace shadowmmu::testing {

OracleResult::Denied Oracle::Judge(const OracleCpu& cpu,
                                   const OracleResult& completed_walk,
                                   const Access& access) {
  const auto& [registers, pdptes, features] = cpu;
  OracleResult::Denied denied;
  // SDM 4.1.1, 4.6: without paging there are no rights, whatever CR4 says.
  if (PagingModeOf(registers) == PagingMode::kOff) return denied;
  const bool user_mode = IsUserMode(access);
  const bool user_page = completed_walk.user;
  const bool fetch = access.type == AccessType::kFetch;
  const bool write = access.type == AccessType::kWrite;
  const bool wp = (registers.cr0 & manual::kCr0Wp) != 0;

  // SDM 4.6.1; APM 5.6: user-mode accesses reach no supervisor-mode address.
  if (user_mode && !user_page) denied.rights = true;
  // Writes: user-mode ones need R/W in every entry; supervisor-mode ones too,
  // but only with CR0.WP set.
  if (write && !completed_walk.writable && (wp || user_mode)) {
    denied.rights = true;
  }
  // Fetches: XD counts only with EFER.NXE set (else it is reserved, and so
  // clear in a walk that completed).
  if (fetch && !completed_walk.executable) denied.rights = true;
  // SMEP: no supervisor-mode fetch from a user-mode address.
  if (fetch && !user_mode && user_page &&
      (registers.cr4 & manual::kCr4Smep) != 0) {
    denied.rights = true;
  }
  // SMAP: no supervisor-mode data access to a user-mode address, but for
  // explicit ones with EFLAGS.AC set.
  if (!fetch && !user_mode && user_page &&
      (registers.cr4 & manual::kCr4Smap) != 0) {
    denied.smap = access.implicit == Implicit::kYes || !access.eflags_ac;
  }
  // SDM 4.6.2; APM 5.6.7: protection keys, of user-mode addresses, in long mode
  // only; data accesses only. AD denies every one; WD user-mode writes, and
  // supervisor-mode ones with CR0.WP set.
  if (!fetch && user_page && (registers.efer & manual::kEferLma) != 0 &&
      (registers.cr4 & manual::kCr4Pke) != 0) {
    const uint32_t bits = access.pkru >> (2 * completed_walk.key) & 3;
    const bool access_disable = (bits & 1) != 0;
    const bool write_disable = (bits & 2) != 0;
    denied.key =
        access_disable || (write_disable && write && (user_mode || wp));
  }
  return denied;
}

}  // namespace shadowmmu::testing
