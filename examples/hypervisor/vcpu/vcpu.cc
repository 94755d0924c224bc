#include "vcpu/vcpu.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace hypervisor {
namespace {

using shadowmmu::FaultOutcome;

// How long a guest runs, at most, while an interrupt or an NMI waits for the
// end of an interrupt shadow.
constexpr uint64_t kShadowQuantum = 20'000;
// Times in a row that the library asks for another try.
constexpr int kMaxRetries = 1000;

}  // namespace

absl::StatusOr<std::unique_ptr<Vcpu>> Vcpu::Create(Vm& vm, const Cpuid& cpuid,
                                                   const CpuState& first) {
  absl::StatusOr<std::unique_ptr<shadowmmu::VcpuMmu>> mmu =
      vm.mmu().CreateVcpu(shadowmmu::VcpuId{0});
  if (!mmu.ok()) return mmu.status();
  if (absl::Status set = (*mmu)->SetFeatures(cpuid.PagingFeatures());
      !set.ok()) {
    return set;
  }
  std::unique_ptr<Vcpu> vcpu(new Vcpu(vm, cpuid, *std::move(mmu)));
  SetState(first, vcpu->vmcb_, vcpu->registers_);
  if (vcpu->paging_.Set(first.cr0, first.cr3, first.cr4, first.efer)) {
    return absl::InvalidArgumentError(
        "the loader's control registers are none that a CPU takes");
  }
  return vcpu;
}

Vcpu::Vcpu(Vm& vm, const Cpuid& cpuid, std::unique_ptr<shadowmmu::VcpuMmu> mmu)
    : vm_(vm),
      cpuid_(cpuid),
      mmu_(std::move(mmu)),
      paging_(*mmu_, cpuid.AllowedCr4()),
      msrs_(paging_, vm.machine(), vmcb_, cpuid.physical_bits()),
      bus_(vm.mmu(), *mmu_, vm.machine(), vmcb_) {
  SetPermissions(permissions_);
  InitVmcb(vmcb_, permissions_);
  constexpr uint16_t kFpuControlAtReset = 0x37f;
  constexpr uint32_t kMxcsrAtReset = 0x1f80;
  constexpr size_t kMxcsr = 24;
  std::memcpy(&registers_.fpu.bytes[0], &kFpuControlAtReset, 2);
  std::memcpy(&registers_.fpu.bytes[kMxcsr], &kMxcsrAtReset, 4);
}

absl::Status Vcpu::RunOnce() {
  if (absl::Status good = vm_.Tick(); !good.ok()) return good;
  vm_.machine().Advance();
  Deliver();
  if (events_.shutdown()) vm_.End(ExitStatus::kReset);
  if (vm_.ended()) return absl::OkStatus();
  if (absl::Status entered = Enter(); !entered.ok()) return entered;
  if (vm_.ended()) return absl::OkStatus();  // it could not be entered
  events_.TakeExitIntInfo(vmcb_.exit_int_info);
  if ((vmcb_.exit_int_info & event::kValid) == 0) pushes_ = 0;
  vm_.statistics().CountExit(static_cast<ExitCode>(vmcb_.exit_code));
  if (nmi_window_.AfterExit(events_, vmcb_) == NmiWindow::Exit::kOwn) {
    return absl::OkStatus();
  }
  return Serve();
}

// ---- Before an entry ----

bool Vcpu::InterruptsOn() const {
  return (vmcb_.rflags & rflags::kIf) != 0 && (vmcb_.interrupt_shadow & 1) == 0;
}

bool Vcpu::InterruptWaits() {
  return events_.InterruptWaits() || vm_.machine().InterruptPending();
}

// The controller is asked only when what it gives can be taken.
void Vcpu::TakeInterrupt() {
  if (!events_.Idle() || !InterruptsOn()) return;
  if (!vm_.machine().InterruptPending()) return;
  events_.Interrupt(vm_.machine().AcknowledgeInterrupt());
  ++vm_.statistics().interrupts;
}

void Vcpu::TakeNmi() {
  if (vm_.machine().local_apic().TakeNmi()) events_.Nmi();
}

void Vcpu::Deliver() {
  TakeNmi();
  TakeInterrupt();
  const bool in_shadow = (vmcb_.interrupt_shadow & 1) != 0;
  vmcb_.event_injection =
      events_.Next(in_shadow        ? InterruptFlag::kShadow
                   : InterruptsOn() ? InterruptFlag::kSet
                                    : InterruptFlag::kClear);
  if (vmcb_.event_injection != 0 && events_.cr2()) vmcb_.cr2 = *events_.cr2();
  if (events_.Faults()) vmcb_.rflags |= rflags::kRf;
  nmi_window_.BeforeEntry(events_, vmcb_);
  // Something waits for RFLAGS.IF: the guest exits as soon as it is set. An
  // interrupt shadow is not for VMRUN to see (QEMU), so that a window would
  // open in it: a short turn instead.
  const bool window =
      vmcb_.event_injection == 0 && !in_shadow && InterruptWaits();
  if (window) {
    vmcb_.virtual_interrupt |=
        virtual_interrupt::kIrq | virtual_interrupt::kIgnoreTpr;
    vmcb_.intercepts_1 |= intercept_1::kVintr;
  } else {
    vmcb_.virtual_interrupt &=
        ~(virtual_interrupt::kIrq | virtual_interrupt::kIgnoreTpr);
    vmcb_.intercepts_1 &= ~intercept_1::kVintr;
  }
}

absl::Status Vcpu::Enter() {
  task_guard_.BeforeEntry(paging_, bus_, vmcb_);
  const absl::Status entered = EnterGuarded();
  task_guard_.AfterExit(vmcb_);
  return entered;
}

absl::Status Vcpu::EnterGuarded() {
  FaultOutcome ready = mmu_->EnterGuest();
  for (int i = 0; i < kMaxRetries && ready.kind == FaultOutcome::Kind::kRetry;
       ++i) {
    ready = mmu_->EnterGuest();
  }
  if (ready.kind == FaultOutcome::Kind::kMemoryFault) {
    // CR3 leads to memory that is not there: no fetch succeeds, and no handler
    // can be reached.
    vm_.End(ExitStatus::kReset);
    return absl::OkStatus();
  }
  if (!ready.resume()) {
    return absl::ResourceExhaustedError(
        "the guest cannot be entered: no table page");
  }
  paging_.Load(vmcb_);
  const uint64_t now = vm_.clock().Nanoseconds();
  const bool in_shadow = (vmcb_.interrupt_shadow & 1) != 0;
  const bool hurry = in_shadow && (InterruptWaits() || events_.NmiDue());
  ArmTimer(now, hurry ? kShadowQuantum : kQuantum);
  vm_.statistics().CountEntry(now);
  SvmRun(vmcb_, registers_);
  mmu_->ExitGuest();
  vm_.statistics().CountReturn(vm_.clock().Nanoseconds());
  return absl::OkStatus();
}

// ---- Helpers ----

void Vcpu::ArmTimer(uint64_t now, uint64_t most) {
  uint64_t deadline = now + most;
  if (const auto next = vm_.machine().NextEvent()) {
    deadline = std::min(deadline, *next);
  }
  timer_.Arm(now, deadline);
}

CpuState Vcpu::State() const {
  CpuState state = StateOf(vmcb_, registers_);
  state.cr0 = paging_.cr0();
  state.cr3 = paging_.cr3();
  state.cr4 = paging_.cr4();
  state.efer = paging_.efer();
  return state;
}

void Vcpu::MoveTo(uint64_t rip) {
  const bool wide = (paging_.efer() & shadowmmu::efer::kLma) != 0 &&
                    (vmcb_.cs.attributes & Segment::kLong) != 0;
  vmcb_.rip = wide ? rip : rip & 0xffffffff;
  vmcb_.interrupt_shadow = 0;
  vmcb_.rflags &= ~rflags::kRf;
  TrapIfStepping();
}

void Vcpu::TrapIfStepping() {
  if ((vmcb_.rflags & rflags::kTf) == 0) return;
  constexpr uint64_t kSingleStep = 1u << 14;  // DR6.BS
  vmcb_.dr6 |= kSingleStep;
  Raise({ExceptionVector::kDebug, std::nullopt, {}});
}

}  // namespace hypervisor
