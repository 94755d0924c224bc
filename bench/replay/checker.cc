#include "bench/replay/checker.h"

#include <optional>

#include "absl/strings/str_cat.h"
#include "shadowmmu/audit.h"
#include "tests/harness/say.h"

namespace shadowmmu::replay {

using testing::OracleResult;
using testing::OracleTarget;
using testing::Say;

absl::Status Checker::CheckAccess(const PagingRegisters& registers, Gva gva,
                                  const Access& access,
                                  const FaultOutcome& outcome, Hpa hpa) {
  ++accesses_;
  const OracleResult truth = oracle_.Translate(
      {.registers = registers}, AddressSpace::kNormal, gva, access);
  if (Agrees(truth, outcome, hpa)) return absl::OkStatus();
  return absl::InternalError(Say(access, " at ", gva, ": the library says ",
                                 outcome, " (", hpa, "), the oracle says ",
                                 truth));
}

bool Checker::Agrees(const OracleResult& truth, const FaultOutcome& outcome,
                     Hpa hpa) const {
  switch (outcome.kind) {
    case FaultOutcome::Kind::kResume: {
      const std::optional<Hva> place =
          machine_->memory().HvaOf(AddressSpace::kNormal, truth.gpa);
      return truth.kind == OracleResult::Kind::kTranslated &&
             truth.target == OracleTarget::kMemory && truth.updates.empty() &&
             place.has_value() && hpa == Hpa(place->value());
    }
    case FaultOutcome::Kind::kGuestFault:
      return truth.kind == OracleResult::Kind::kGuestFault &&
             truth.fault == outcome.guest_fault;
    case FaultOutcome::Kind::kEmulate:
      return truth.kind == OracleResult::Kind::kTranslated &&
             truth.target == OracleTarget::kMemory && truth.updates.empty() &&
             truth.gpa == outcome.gpa &&
             outcome.emulate_reason == EmulateReason::kWriteTracked;
    default:
      return false;
  }
}

absl::Status Checker::CheckLibrary(Mmu& mmu, absl::string_view what) {
  ++audits_;
  const AuditReport report = Audit(mmu);
  if (report.ok()) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(
      "the audit after ", what, " finds ", report.violations.size(),
      " violations, the first: ", report.violations.front()));
}

}  // namespace shadowmmu::replay
