// Checker: holds what the library and the CPU made of the guest's accesses
// against the oracle, and audits the library.
//
// Rules:
//  1. It goes by the machine's own list of slots, the guest's tables and the
//     manuals (tests/harness/oracle.h), never by what the library says.
//  2. An access that went through must have hit the host address of the page
//     that the guest's tables name, with A and D set in them as it needs; a
//     fault for the guest must be the one that the manuals give; a store that
//     is to be emulated must be one that the tables allow.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_BENCH_REPLAY_CHECKER_H_
#define SHADOWMMU_BENCH_REPLAY_CHECKER_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "bench/replay/machine.h"
#include "shadowmmu/access.h"
#include "shadowmmu/address.h"
#include "shadowmmu/fault.h"
#include "tests/harness/oracle.h"

namespace shadowmmu::replay {

class Checker {
 public:
  // Not owned.
  explicit Checker(const Machine* machine)
      : machine_(machine), oracle_(&machine->memory(), kGuestPhysicalBits) {}

  // The access at `gva` has ended as `outcome`; with kResume it hit `hpa`.
  // Internal: the oracle says otherwise.
  absl::Status CheckAccess(const PagingRegisters& registers, Gva gva,
                           const Access& access, const FaultOutcome& outcome,
                           Hpa hpa);
  // Internal: the audit found something wrong, after `what`.
  absl::Status CheckLibrary(Mmu& mmu, absl::string_view what);

  uint64_t accesses() const { return accesses_; }
  uint64_t audits() const { return audits_; }

 private:
  bool Agrees(const testing::OracleResult& truth, const FaultOutcome& outcome,
              Hpa hpa) const;

  const Machine* const machine_;
  const testing::Oracle oracle_;
  uint64_t accesses_ = 0;
  uint64_t audits_ = 0;
};

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_CHECKER_H_
