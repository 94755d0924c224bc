// What others have for a vCPU, and how it waits for that: a part of Vcpu.

#include "absl/status/status.h"
#include "boot/apic_timer.h"
#include "boot/cpu.h"
#include "vcpu/startup_state.h"
#include "vcpu/vcpu.h"

namespace hypervisor {

bool Vcpu::InterruptWaits() const {
  return events_.InterruptWaits() || news_.interrupt;
}

absl::Status Vcpu::Look() {
  vm_.states().ClearNews(number_);
  news_ = vm_.board().Look(number_, posture_);
  if (news_.init) Init();
  if (news_.startup && posture_ == Posture::kWaitsForStartup) {
    if (absl::Status good = Start(*news_.startup); !good.ok()) return good;
  }
  if (news_.nmi) events_.Nmi();
  if (news_.all_stuck) vm_.End(ExitStatus::kHalted);
  return absl::OkStatus();
}

bool Vcpu::WakesUp() const {
  switch (posture_) {
    case Posture::kRuns:
      return true;
    case Posture::kHalted:
      return InterruptWaits() || events_.NmiDue();
    case Posture::kStuck:
      return events_.NmiDue();
    case Posture::kWaitsForStartup:
      return false;
  }
  return false;
}

absl::Status Vcpu::Wait() {
  const uint64_t began = vm_.clock().Nanoseconds();
  while (true) {
    if (absl::Status good = Look(); !good.ok()) return good;
    if (vm_.ended() || WakesUp()) break;
    ArmTimer(vm_.clock().Nanoseconds(), kQuantum);
    // Interrupts are off: one that tells of news from here on ends the HLT.
    if (!vm_.states().HasNews(number_)) WaitForInterrupt();
    if (absl::Status good = vm_.Tick(number_); !good.ok()) return good;
  }
  posture_ = Posture::kRuns;
  if (statistics_.exits() != 0) {
    statistics_.CountHalt(vm_.clock().Nanoseconds() - began);
  }
  return absl::OkStatus();
}

// The CPU that boots goes on with firmware: there is none.
void Vcpu::Init() {
  if (number_ == 0) return vm_.End(ExitStatus::kReset);
  posture_ = Posture::kWaitsForStartup;
}

absl::Status Vcpu::Start(uint8_t page) {
  CpuState state = StartedAt(page);
  // The CPU's signature (APM vol. 2, table 14-1).
  state.gpr[kRdx] = ReadCpuid(1).eax;
  if (paging_.Set(state.cr0, state.cr3, state.cr4, state.efer)) {
    return absl::InternalError("a CPU that starts cannot leave paging");
  }
  SetState(state, vmcb_, registers_);
  vmcb_.interrupt_shadow = 0;
  events_ = Events();
  nmi_window_ = NmiWindow();
  pushes_ = 0;
  posture_ = Posture::kRuns;
  return absl::OkStatus();
}

}  // namespace hypervisor
