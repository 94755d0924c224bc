#include "tests/harness/stream_vcpu.h"

#include <utility>

namespace shadowmmu::testing {

StreamVcpu::StreamVcpu(TestHost* host, std::unique_ptr<VcpuMmu> mmu)
    : host_(host), mmu_(std::move(mmu)), cpu_(host, host->Format()) {
  host_->Attach(mmu_->id(), &cpu_);
}

StreamVcpu::~StreamVcpu() {
  Leave();
  host_->Detach(mmu_->id());
}

StreamVcpu::Next StreamVcpu::EnterOnce(OpResult* result) {
  // Before it counts as inside: a kick that comes later must be seen.
  kick_seen_ = false;
  cpu_.ClearExitRequest();
  const FaultOutcome ready = mmu_->EnterGuest();
  result->outcome = ready;
  if (!ready.resume()) {
    return ready.kind == FaultOutcome::Kind::kRetry ? Next::kAgain
                                                    : Next::kDone;
  }
  in_guest_ = true;
  result->entered = true;
  const std::string refused = cpu_.Enter(mmu_->HardwareState());
  if (refused.empty()) return Next::kAgain;
  result->broken = "the CPU refuses the hardware state: " + refused;
  Leave();
  return Next::kDone;
}

OpResult StreamVcpu::Enter() {
  OpResult result;
  result.outcome = FaultOutcome::Resume();
  for (uint32_t round = 0; round < kMaxRounds && !in_guest_; ++round) {
    if (EnterOnce(&result) == Next::kDone) break;
  }
  return result;
}

void StreamVcpu::Leave() {
  if (!in_guest_) return;
  mmu_->ExitGuest();
  in_guest_ = false;
}

void StreamVcpu::LeaveForAWhile() {
  comes_back_ = in_guest_;
  Leave();
}

void StreamVcpu::ComeBack() {
  if (!std::exchange(comes_back_, false)) return;
  returning_ = true;
  Enter();
  returning_ = false;
}

StreamVcpu::Next StreamVcpu::Round(Gva gva, const Access& access,
                                   CpuModel::Body body, OpResult* result) {
  if (in_guest_ && kick_seen_) Leave();
  kick_seen_ = cpu_.exit_requested();
  if (!in_guest_) {
    const Next next = EnterOnce(result);
    if (next == Next::kDone || !in_guest_) return next;
  }
  const CpuResult cpu = cpu_.Access(gva, access, body);
  if (cpu.hit()) {
    result->outcome = FaultOutcome::Resume();
    result->hpa = cpu.hpa;
    result->from_tlb = cpu.from_tlb;
    return Next::kDone;
  }
  if (cpu.kind == CpuResult::Kind::kBroken) {
    result->broken = "the CPU met broken tables: " + cpu.broken;
    return Next::kDone;
  }
  if (cpu.kind == CpuResult::Kind::kGeneralProtection) {
    // The guest takes it with no exit.
    result->outcome = FaultOutcome::Inject(
        {.vector = GuestFault::Vector::kGeneralProtection});
    return Next::kDone;
  }
  Leave();
  ++result->faults;
  Access reported = access;
  reported.reported_error = cpu.error_code;
  result->outcome = mmu_->HandleFault(cpu.gva, reported);
  const FaultOutcome::Kind kind = result->outcome->kind;
  return kind == FaultOutcome::Kind::kResume ||
                 kind == FaultOutcome::Kind::kRetry
             ? Next::kAgain
             : Next::kDone;
}

OpResult StreamVcpu::Touch(Gva gva, const Access& access, CpuModel::Body body) {
  const bool inside = in_guest_;
  OpResult result;
  Next next = Next::kAgain;
  for (uint32_t round = 0; round < kMaxRounds && next == Next::kAgain;
       ++round) {
    next = Round(gva, access, body, &result);
  }
  if (next == Next::kAgain && result.outcome->resume()) {
    result.broken = "the access faults again and again";
  }
  Return(inside, &result);
  return result;
}

OpResult StreamVcpu::Outside(
    absl::FunctionRef<void(VcpuMmu&, OpResult&)> call) {
  const bool inside = in_guest_;
  Leave();
  OpResult result;
  call(*mmu_, result);
  Return(inside, &result);
  return result;
}

void StreamVcpu::Return(bool inside, OpResult* result) {
  if (!inside) {
    Leave();
    return;
  }
  // Where it cannot enter it stays outside, which is what `enter` itself does.
  returning_ = true;
  const OpResult back = Enter();
  returning_ = false;
  result->entered = result->entered || back.entered;
  if (result->broken.empty()) result->broken = back.broken;
}

}  // namespace shadowmmu::testing
