#include "vcpu/vcpu.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/synchronization/mutex.h"
#include "boot/per_cpu.h"
#include "boot/processors.h"

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
                                                   unsigned number,
                                                   const CpuState* first) {
  absl::StatusOr<std::unique_ptr<shadowmmu::VcpuMmu>> mmu =
      vm.mmu().CreateVcpu(shadowmmu::VcpuId{number});
  if (!mmu.ok()) return mmu.status();
  if (absl::Status set = (*mmu)->SetFeatures(cpuid.PagingFeatures());
      !set.ok()) {
    return set;
  }
  vm.states().Bind(number);
  std::unique_ptr<Vcpu> vcpu(new Vcpu(vm, cpuid, number, *std::move(mmu)));
  if (first == nullptr) {
    vcpu->posture_ = Posture::kWaitsForStartup;
    return vcpu;
  }
  SetState(*first, vcpu->vmcb_, vcpu->registers_);
  if (vcpu->paging_.Set(first->cr0, first->cr3, first->cr4, first->efer)) {
    return absl::InvalidArgumentError(
        "the loader's control registers are none that a CPU takes");
  }
  return vcpu;
}

Vcpu::Vcpu(Vm& vm, const Cpuid& cpuid, unsigned number,
           std::unique_ptr<shadowmmu::VcpuMmu> mmu)
    : vm_(vm),
      cpuid_(cpuid),
      number_(number),
      mmu_(std::move(mmu)),
      paging_(*mmu_, cpuid.AllowedCr4()),
      msrs_(number, paging_, vm.board(), vmcb_, cpuid.physical_bits()),
      bus_(vm.mmu(), *mmu_, vm.board(), vmcb_) {
  SetPermissions(permissions_);
  InitVmcb(vmcb_, permissions_);
  constexpr uint16_t kFpuControlAtReset = 0x37f;
  constexpr uint32_t kMxcsrAtReset = 0x1f80;
  constexpr size_t kMxcsr = 24;
  std::memcpy(&registers_.fpu.bytes[0], &kFpuControlAtReset, 2);
  std::memcpy(&registers_.fpu.bytes[kMxcsr], &kMxcsrAtReset, 4);
}

absl::Status Vcpu::RunOnce() {
  if (absl::Status good = vm_.Tick(number_); !good.ok()) return good;
  if (absl::Status good = Look(); !good.ok()) return good;
  if (posture_ != Posture::kRuns) return Wait();
  Deliver();
  if (events_.shutdown()) vm_.End(ExitStatus::kReset);
  if (vm_.ended()) return absl::OkStatus();
  if (absl::Status entered = Enter(); !entered.ok()) return entered;
  if (vm_.ended()) return absl::OkStatus();  // it could not be entered
  events_.TakeExitIntInfo(vmcb_.exit_int_info);
  if ((vmcb_.exit_int_info & event::kValid) == 0) pushes_ = 0;
  statistics_.CountExit(static_cast<ExitCode>(vmcb_.exit_code));
  vm_.CountExit();
  if (nmi_window_.AfterExit(events_, vmcb_) == NmiWindow::Exit::kOwn) {
    return absl::OkStatus();
  }
  return Serve();
}

// ---- Before an entry ----

bool Vcpu::InterruptsOn() const {
  return (vmcb_.rflags & rflags::kIf) != 0 && (vmcb_.interrupt_shadow & 1) == 0;
}

// The controller is asked only when what it gives can be taken.
void Vcpu::TakeInterrupt() {
  if (!news_.interrupt || !events_.Idle() || !InterruptsOn()) return;
  const auto vector = vm_.board().Acknowledge(number_, &news_.interrupt);
  if (!vector) return;
  events_.Interrupt(*vector);
  ++statistics_.interrupts;
}

void Vcpu::Deliver() {
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
  {
    const absl::ReaderMutexLock memory_is_there(&vm_.memory_lock());
    task_guard_.BeforeEntry(paging_, bus_, vmcb_);
  }
  const absl::Status entered = EnterGuarded();
  task_guard_.AfterExit(vmcb_);
  return entered;
}

absl::StatusOr<bool> Vcpu::Ready() {
  vm_.states().Prepare(number_);
  FaultOutcome ready = mmu_->EnterGuest();
  if (ready.kind == FaultOutcome::Kind::kMemoryFault ||
      ready.kind == FaultOutcome::Kind::kRetry) {
    // The slot of its root may be away just now, or about to go: wait until it
    // is back.
    const absl::ReaderMutexLock memory_is_there(&vm_.memory_lock());
    vm_.states().Prepare(number_);
    ready = mmu_->EnterGuest();
  }
  if (ready.kind == FaultOutcome::Kind::kRetry) return false;
  if (ready.kind == FaultOutcome::Kind::kMemoryFault) {
    // CR3 leads to memory that is not there: no fetch succeeds, and no handler
    // can be reached.
    vm_.End(ExitStatus::kReset);
    return false;
  }
  if (!ready.resume()) {
    return absl::ResourceExhaustedError(
        "the guest cannot be entered: no table page");
  }
  if (vm_.states().Begin(number_)) return true;
  // Another CPU wants this one out: what EnterGuest gave may be over.
  mmu_->ExitGuest();
  return false;
}

absl::Status Vcpu::EnterGuarded() {
  bool ready = false;
  for (int i = 0; !ready && i <= kMaxRetries; ++i) {
    const absl::StatusOr<bool> tried = Ready();
    if (!tried.ok()) return tried.status();
    if (vm_.ended() && !*tried) return absl::OkStatus();
    ready = *tried;
  }
  if (!ready) {
    return absl::ResourceExhaustedError(
        "the guest cannot be entered: others do not let it");
  }
  // Rule 3 from here on.
  paging_.Load(vmcb_);
  const uint64_t now = vm_.clock().Nanoseconds();
  const bool in_shadow = (vmcb_.interrupt_shadow & 1) != 0;
  const bool hurry = in_shadow && (InterruptWaits() || events_.NmiDue());
  ArmTimer(now, hurry ? kShadowQuantum : kQuantum);
  // Since Look: the guest exits at once.
  if (vm_.states().HasNews(number_)) WakeCpu(CpuIndex());
  statistics_.CountEntry(now);
  SvmRun(vmcb_, registers_);
  vm_.states().End(number_);
  mmu_->ExitGuest();
  statistics_.CountReturn(vm_.clock().Nanoseconds());
  return absl::OkStatus();
}

// ---- Helpers ----

void Vcpu::ArmTimer(uint64_t now, uint64_t most) {
  uint64_t deadline = now + most;
  if (news_.next_event) deadline = std::min(deadline, *news_.next_event);
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
