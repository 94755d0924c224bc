#include "tests/harness/guest_vcpu.h"

#include <ostream>

namespace shadowmmu::testing {

std::ostream& operator<<(std::ostream& os, const TouchResult& result) {
  switch (result.kind) {
    case TouchResult::Kind::kHit:
      return os << "hit " << result.hpa << " (" << result.level << ") after "
                << result.faults << " faults";
    case TouchResult::Kind::kOutcome:
      return os << result.outcome << " after " << result.faults << " faults";
    case TouchResult::Kind::kDidNotConverge:
      return os << "did not converge in " << GuestVcpu::kMaxRounds
                << " rounds, the last one: " << result.outcome;
    case TouchResult::Kind::kBroken:
      return os << "broken: " << result.broken;
  }
  return os;
}

TouchResult GuestVcpu::Touch(Gva gva, const Access& access) {
  return Touch(gva, access, [](Hpa) {});
}

TouchResult GuestVcpu::Touch(Gva gva, const Access& access,
                             CpuModel::Body body) {
  ++counts_.touches;
  TouchResult result;
  for (uint32_t round = 0; round < kMaxRounds; ++round) {
    if (Round(gva, access, body, &result) == Next::kDone) return result;
  }
  result.kind = TouchResult::Kind::kDidNotConverge;
  return result;
}

GuestVcpu::Next GuestVcpu::Round(Gva gva, const Access& access,
                                 CpuModel::Body body, TouchResult* result) {
  // A kick from here on must be seen; an older one meant an older entry.
  cpu_->ClearExitRequest();
  result->outcome = mmu_->EnterGuest();
  if (!result->outcome.resume()) return After(result);
  ++counts_.entries;
  if (cpu_->exit_requested()) {
    mmu_->ExitGuest();
    ++counts_.kicks;
    return Next::kAgain;
  }
  std::string refused = cpu_->Enter(mmu_->HardwareState());
  if (!refused.empty()) {
    mmu_->ExitGuest();
    result->kind = TouchResult::Kind::kBroken;
    result->broken = "the CPU refuses to enter: " + refused;
    return Next::kDone;
  }
  const CpuResult done = cpu_->Access(gva, access, body);
  mmu_->ExitGuest();
  return Judge(done, access, result);
}

GuestVcpu::Next GuestVcpu::Judge(const CpuResult& done, const Access& access,
                                 TouchResult* result) {
  switch (done.kind) {
    case CpuResult::Kind::kHit:
      result->kind = TouchResult::Kind::kHit;
      result->hpa = done.hpa;
      result->level = done.level;
      result->from_tlb = done.from_tlb;
      return Next::kDone;
    case CpuResult::Kind::kBroken:
      result->kind = TouchResult::Kind::kBroken;
      result->broken = done.broken;
      return Next::kDone;
    case CpuResult::Kind::kGeneralProtection:
      // The CPU delivers it to the guest itself; the library never hears of it.
      result->outcome = FaultOutcome::Inject(
          {GuestFault::Vector::kGeneralProtection, 0, Gva()});
      return After(result);
    case CpuResult::Kind::kPageFault:
      break;
  }
  ++counts_.faults;
  ++result->faults;
  Access reported = access;
  reported.reported_error = done.error_code;
  result->outcome = mmu_->HandleFault(done.gva, reported);
  if (hook_) hook_(done.gva, result->outcome);
  return After(result);
}

GuestVcpu::Next GuestVcpu::After(TouchResult* result) {
  const FaultOutcome::Kind kind = result->outcome.kind;
  if (kind == FaultOutcome::Kind::kResume ||
      kind == FaultOutcome::Kind::kRetry) {
    return Next::kAgain;
  }
  result->kind = TouchResult::Kind::kOutcome;
  return Next::kDone;
}

}  // namespace shadowmmu::testing
