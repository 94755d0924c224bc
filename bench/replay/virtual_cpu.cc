#include "bench/replay/virtual_cpu.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "bench/replay/stop_watch.h"
#include "shadowmmu/vcpu_mmu.h"
#include "tests/harness/say.h"

namespace shadowmmu::replay {
namespace {

using testing::CpuResult;
using testing::Say;

// Rounds that one access, or one emulated store, may take.
constexpr int kMaxRounds = 64;

constexpr uint64_t kCr0 = cr0::kPe | cr0::kPg | cr0::kWp;
constexpr uint64_t kEfer = efer::kLme | efer::kLma | efer::kNxe;

// Does an access end with this outcome, rather than being tried again?
bool Ends(const FaultOutcome& outcome) {
  return outcome.kind != FaultOutcome::Kind::kResume &&
         outcome.kind != FaultOutcome::Kind::kRetry;
}

}  // namespace

absl::Status VirtualCpu::Load(Gpa root) {
  Leave();
  log_->NoteLoad();
  if (loaded_) {
    const bool same = machine_->vcpu().registers().cr3 == root.value();
    ++(same ? counts_.cr3_reloads : counts_.cr3_switches);
    return machine_->vcpu().WriteCr3(root.value());
  }
  loaded_ = true;
  PagingRegisters registers;
  registers.cr0 = kCr0;
  registers.cr3 = root.value();
  registers.cr4 = cr4::kPae;
  registers.efer = kEfer;
  return machine_->vcpu().SetRegisters(registers);
}

absl::Status VirtualCpu::Enter() {
  if (in_guest_) return absl::OkStatus();
  VcpuMmu& vcpu = machine_->vcpu();
  const FaultOutcome outcome = vcpu.EnterGuest();
  if (!outcome.resume()) {
    return absl::InternalError(Say("the vCPU cannot enter: ", outcome));
  }
  in_guest_ = true;
  ++entries_;
  const std::string refused = machine_->cpu().Enter(vcpu.HardwareState());
  if (refused.empty()) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("the CPU refuses to enter: ", refused));
}

void VirtualCpu::Leave() {
  if (in_guest_) machine_->vcpu().ExitGuest();
  in_guest_ = false;
}

absl::StatusOr<Touched> VirtualCpu::Touch(Gva gva, const Access& access,
                                          testing::CpuModel::Body body) {
  uint32_t forbidden = 0;
  for (int round = 0; round < kMaxRounds; ++round) {
    if (absl::Status entered = Enter(); !entered.ok()) return entered;
    const CpuResult result = machine_->cpu().Access(gva, access, body);
    if (result.hit()) {
      return End(gva, access,
                 Touched{.outcome = FaultOutcome::Resume(),
                         .hpa = result.hpa,
                         .from_tlb = result.from_tlb,
                         .forbidden = forbidden});
    }
    if (result.kind != CpuResult::Kind::kPageFault) {
      return absl::InternalError(Say(access, ": ", result));
    }
    const FaultOutcome outcome = Resolve(gva, access, result.error_code);
    if (Ends(outcome)) {
      return End(gva, access,
                 Touched{.outcome = outcome, .forbidden = forbidden});
    }
    if ((result.error_code & pf_error::kPresent) != 0) ++forbidden;
  }
  return absl::InternalError(Say(access, " at ", gva, " still faults after ",
                                 kMaxRounds, " faults were resolved"));
}

FaultOutcome VirtualCpu::Resolve(Gva gva, const Access& access,
                                 uint32_t error_code) {
  Leave();
  Access reported = access;
  reported.reported_error = error_code;
  const StopWatch watch;
  const FaultOutcome outcome = machine_->vcpu().HandleFault(gva, reported);
  log_->Note(gva, reported, outcome, watch.elapsed());
  return outcome;
}

absl::StatusOr<Touched> VirtualCpu::End(Gva gva, const Access& access,
                                        const Touched& touched) {
  if (checker_ != nullptr) {
    absl::Status checked =
        checker_->CheckAccess(machine_->vcpu().registers(), gva, access,
                              touched.outcome, touched.hpa);
    if (!checked.ok()) return checked;
  }
  const FaultOutcome& outcome = touched.outcome;
  if (outcome.resume()) log_->NoteThrough(gva, access);
  const bool expected =
      outcome.resume() || outcome.kind == FaultOutcome::Kind::kGuestFault ||
      (outcome.kind == FaultOutcome::Kind::kEmulate &&
       outcome.emulate_reason == EmulateReason::kWriteTracked);
  if (expected) return touched;
  if (outcome.kind == FaultOutcome::Kind::kNoMemory) {
    return absl::ResourceExhaustedError(
        "the library has no table left for a fault: raise --tables");
  }
  return absl::InternalError(Say(access, " at ", gva, " ended as ", outcome));
}

void VirtualCpu::Invlpg(Gva gva) {
  Leave();
  ++counts_.invlpgs;
  machine_->vcpu().Invlpg(gva);
}

absl::Status VirtualCpu::Emulate(Gpa gpa, std::span<const std::byte> bytes) {
  Leave();
  FaultOutcome outcome = FaultOutcome::Retry();
  for (int round = 0; round < kMaxRounds; ++round) {
    outcome = machine_->vcpu().GuestWrite(gpa, bytes);
    if (outcome.resume()) return absl::OkStatus();
    if (outcome.kind != FaultOutcome::Kind::kRetry) break;
  }
  return absl::InternalError(
      Say("an emulated store at ", gpa, " ended as ", outcome));
}

}  // namespace shadowmmu::replay
