// Serves what a guest exits for: the second half of Vcpu.

#include <cstddef>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "emulate/control.h"
#include "emulate/task_switch.h"
#include "vcpu/vcpu.h"

namespace hypervisor {
namespace {

using shadowmmu::FaultOutcome;
using shadowmmu::Gva;
namespace pf_error = shadowmmu::pf_error;

// CR8, and what fits into it (APM vol. 2, 3.1.5).
constexpr unsigned kTaskPriority = 8;
constexpr uint64_t kHighestPriority = 15;

}  // namespace

absl::Status Vcpu::Serve() {
  if (static_cast<ExitCode>(vmcb_.exit_code) == ExitCode::kPageFault) {
    return ServePageFault();
  }
  const absl::ReaderMutexLock memory_is_there(&vm_.memory_lock());
  return ServeOthers();
}

absl::Status Vcpu::ServeOthers() {
  switch (static_cast<ExitCode>(vmcb_.exit_code)) {
    case ExitCode::kIntr:
    case ExitCode::kNmi:
    case ExitCode::kVintr:
      return absl::OkStatus();
    case ExitCode::kIoio:
      return ServePort();
    case ExitCode::kMsr:
      return ServeMsr();
    case ExitCode::kCpuid:
      ServeCpuid();
      return absl::OkStatus();
    case ExitCode::kHlt:
      ServeHalt();
      return absl::OkStatus();
    case ExitCode::kInvlpg:
      return ServeInvlpg();
    case ExitCode::kTaskSwitch:
      return ServeTaskSwitch();
    case ExitCode::kWriteTr:
      return Emulate();
    case ExitCode::kInvd:
    case ExitCode::kWbinvd:
      Skip(2);
      return absl::OkStatus();
    case ExitCode::kRdpmc:
      Raise(Exception::GeneralProtection());
      return absl::OkStatus();
    case ExitCode::kShutdown:
      vm_.End(ExitStatus::kReset);
      return absl::OkStatus();
    case ExitCode::kInvalid:
      return absl::InternalError(
          absl::StrCat("VMRUN refuses the state: cr0 ", absl::Hex(vmcb_.cr0),
                       " cr4 ", absl::Hex(vmcb_.cr4), " efer ",
                       absl::Hex(vmcb_.efer), " rip ", absl::Hex(vmcb_.rip)));
    default:
      break;
  }
  if (vmcb_.exit_code <= static_cast<uint64_t>(ExitCode::kWriteCr15)) {
    return ServeControlRegister();
  }
  // Instructions that this CPU does not have: SVM's own, MONITOR, XSETBV,
  // INVPCID, RSM.
  Raise(Exception::InvalidOpcode());
  return absl::OkStatus();
}

absl::Status Vcpu::ServePageFault() {
  if (task_guard_.IsLookAtTss(vmcb_.exit_info_2)) {
    const absl::ReaderMutexLock memory_is_there(&vm_.memory_lock());
    const auto request =
        task_guard_.SwitchAt(State(), vmcb_, bus_, emulator_.decoder());
    return request ? SwitchTask(*request) : absl::OkStatus();
  }
  const auto code = static_cast<uint32_t>(vmcb_.exit_info_1);
  BusAccess access;
  access.type = (code & pf_error::kFetch) != 0   ? shadowmmu::AccessType::kFetch
                : (code & pf_error::kWrite) != 0 ? shadowmmu::AccessType::kWrite
                                                 : shadowmmu::AccessType::kRead;
  if ((code & pf_error::kUser) != 0) {
    access.privilege = shadowmmu::Privilege::kUser;
  } else if (vmcb_.cpl == 3) {
    access.implicit = shadowmmu::Implicit::kYes;
  }
  const Gva gva(vmcb_.exit_info_2);
  shadowmmu::Access made = bus_.AccessOf(access);
  made.reported_error = code;
  // Beside a slot that goes; but what that made of it is no answer.
  const uint64_t replugs = vm_.replugs();
  FaultOutcome outcome = mmu_->HandleFault(gva, made);
  if (outcome.resume()) return ServeFault(outcome, gva);
  const absl::ReaderMutexLock memory_is_there(&vm_.memory_lock());
  if (vm_.replugs() != replugs) outcome = mmu_->HandleFault(gva, made);
  return ServeFault(outcome, gva);
}

absl::Status Vcpu::ServeFault(const FaultOutcome& outcome, Gva gva) {
  statistics_.CountFault(outcome);
  switch (outcome.kind) {
    case FaultOutcome::Kind::kResume:
    case FaultOutcome::Kind::kRetry:
      return absl::OkStatus();
    case FaultOutcome::Kind::kGuestFault:
      Raise(ExceptionOf(outcome.guest_fault));
      return absl::OkStatus();
    case FaultOutcome::Kind::kEmulate:
      return (vmcb_.exit_int_info & event::kValid) != 0 ? ServePush(outcome)
                                                        : Emulate();
    case FaultOutcome::Kind::kMemoryFault:
      return absl::UnimplementedError(absl::StrCat(
          "a page table that is not there leads to memory that is, for ",
          absl::Hex(gva.value())));
    default:
      return absl::ResourceExhaustedError("no table page for a fault");
  }
}

// The access is one of the delivery of an event, which no instruction makes: a
// push onto a stack that lies in a page table. No kernel has its stack in a
// table that it uses, so this one is a table no longer.
absl::Status Vcpu::ServePush(const FaultOutcome& outcome) {
  if (outcome.emulate_reason == shadowmmu::EmulateReason::kWriteTracked &&
      ++pushes_ <= kMaxPushes &&
      vm_.mmu().StopShadowing(shadowmmu::ToGfn(outcome.gpa))) {
    return absl::OkStatus();
  }
  return absl::UnimplementedError(absl::StrCat(
      "an event is delivered onto a stack that is no memory, or a root, at ",
      absl::Hex(vmcb_.exit_info_2)));
}

void Vcpu::ServeCpuid() {
  const auto leaf = static_cast<uint32_t>(vmcb_.rax);
  CpuidResult result =
      cpuid_.Read(leaf, static_cast<uint32_t>(registers_.gpr[kRcx]),
                  paging_.cr4(), static_cast<uint8_t>(number_));
  if (leaf == 1 && !msrs_.apic_enabled()) result.edx &= ~Cpuid::kLocalApic;
  vmcb_.rax = result.eax;
  registers_.gpr[kRbx] = result.ebx;
  registers_.gpr[kRcx] = result.ecx;
  registers_.gpr[kRdx] = result.edx;
  Skip(2);
}

absl::Status Vcpu::ServeMsr() {
  const auto msr = static_cast<uint32_t>(registers_.gpr[kRcx]);
  constexpr uint64_t kWrite = 1;
  constexpr uint64_t kLow = 0xffffffff;
  if (vmcb_.exit_info_1 == kWrite) {
    const uint64_t value = registers_.gpr[kRdx] << 32 | (vmcb_.rax & kLow);
    if (const auto exception = msrs_.Write(msr, value)) {
      Raise(*exception);
      return absl::OkStatus();
    }
  } else {
    const std::optional<uint64_t> value = msrs_.Read(msr);
    if (!value) {
      Raise(Exception::GeneralProtection());
      return absl::OkStatus();
    }
    vmcb_.rax = *value & kLow;
    registers_.gpr[kRdx] = *value >> 32;
  }
  Skip(2);
  return absl::OkStatus();
}

// EXITINFO1 as in APM vol. 2, 15.10.2; EXITINFO2 is where the guest goes on.
absl::Status Vcpu::ServePort() {
  const uint64_t info = vmcb_.exit_info_1;
  constexpr uint64_t kIn = 1u << 0;
  constexpr uint64_t kString = 1u << 2;
  if ((info & kString) != 0) return Emulate();
  const auto port = static_cast<uint16_t>(info >> 16);
  const auto bytes = static_cast<unsigned>(info >> 4 & 7);
  const uint64_t mask = ~uint64_t{0} >> (64 - 8 * bytes);
  if ((info & kIn) != 0) {
    const uint64_t value = bus_.In(port, bytes) & mask;
    // 4 bytes clear the upper half (APM vol. 1, 3.1.2).
    vmcb_.rax = bytes == 4 ? value : (vmcb_.rax & ~mask) | value;
  } else {
    bus_.Out(port, bytes, static_cast<uint32_t>(vmcb_.rax & mask));
  }
  MoveTo(vmcb_.exit_info_2);
  return absl::OkStatus();
}

// It waits before its next turn.
void Vcpu::ServeHalt() {
  Skip(1);
  // A trap ends the halt at once, and so does an NMI.
  if ((vmcb_.rflags & rflags::kTf) != 0 || events_.NmiDue()) return;
  posture_ =
      (vmcb_.rflags & rflags::kIf) != 0 ? Posture::kHalted : Posture::kStuck;
}

absl::Status Vcpu::ServeControlRegister() {
  CpuState state = State();
  const ControlOutcome outcome =
      DecodeControl(emulator_.decoder(), state, bus_);
  if (!outcome.result.ok()) {
    if (outcome.result.kind == BusResult::Kind::kException) {
      Raise(outcome.result.exception);
    }
    return absl::OkStatus();
  }
  const ControlAccess& access = outcome.access;
  if (access.kind == ControlKind::kSmsw) return Emulate();
  if (access.kind == ControlKind::kReadControl) {
    const std::optional<uint64_t> value =
        access.number == kTaskPriority ? vm_.board().TaskPriorityClass(number_)
                                       : paging_.Read(access.number);
    if (!value) {
      Raise(Exception::InvalidOpcode());
      return absl::OkStatus();
    }
    FinishRead(state, access, *value);
    SetState(state, vmcb_, registers_);
    vmcb_.interrupt_shadow = 0;
    TrapIfStepping();
    return absl::OkStatus();
  }
  const bool changes_cr0 =
      access.kind == ControlKind::kClts || access.kind == ControlKind::kLmsw;
  if (!changes_cr0 && access.kind != ControlKind::kWriteControl) {
    return absl::InternalError(absl::StrCat(
        "an exit for a control register at ", absl::Hex(vmcb_.rip),
        ", where the guest has: ", emulator_.Describe(outcome.instruction)));
  }
  const unsigned number = changes_cr0 ? 0 : access.number;
  if (number == kTaskPriority && access.value <= kHighestPriority) {
    vm_.board().SetTaskPriorityClass(number_,
                                     static_cast<uint8_t>(access.value));
    Skip(access.length);
    return absl::OkStatus();
  }
  if (const auto exception = number == kTaskPriority
                                 ? Exception::GeneralProtection()
                                 : paging_.Write(number, access.value)) {
    Raise(*exception);
    return absl::OkStatus();
  }
  Skip(access.length);
  return absl::OkStatus();
}

absl::Status Vcpu::ServeInvlpg() {
  const CpuState state = State();
  const ControlOutcome outcome =
      DecodeControl(emulator_.decoder(), state, bus_);
  if (outcome.result.kind == BusResult::Kind::kException) {
    Raise(outcome.result.exception);
  }
  if (!outcome.result.ok()) return absl::OkStatus();
  if (outcome.access.kind != ControlKind::kInvlpg) {
    return absl::InternalError("an exit for INVLPG, and there is none");
  }
  mmu_->Invlpg(outcome.access.address);
  Skip(outcome.access.length);
  return absl::OkStatus();
}

// EXITINFO1 and EXITINFO2 as in APM vol. 2, 15.14.1.
TaskSwitchRequest Vcpu::RequestedSwitch(unsigned length) const {
  constexpr uint64_t kIret = uint64_t{1} << 36;
  constexpr uint64_t kJump = uint64_t{1} << 38;
  constexpr uint64_t kHasErrorCode = uint64_t{1} << 44;
  constexpr uint64_t kRf = uint64_t{1} << 48;
  const uint64_t info = vmcb_.exit_info_2;
  const bool event = (vmcb_.exit_int_info & event::kValid) != 0;
  const uint64_t type =
      vmcb_.exit_int_info >> event::kTypeShift & event::kTypeMask;
  TaskSwitchRequest request;
  request.selector = static_cast<uint16_t>(vmcb_.exit_info_1);
  request.cause = (info & kIret) != 0   ? TaskSwitchCause::kIret
                  : (info & kJump) != 0 ? TaskSwitchCause::kJump
                  : event               ? TaskSwitchCause::kEvent
                                        : TaskSwitchCause::kCall;
  // An instruction that switches is left behind; one that an event interrupts
  // is come back to.
  const bool by_instruction =
      request.cause != TaskSwitchCause::kEvent || type == event::kSoftware;
  request.saved_rip = vmcb_.rip + (by_instruction ? length : 0);
  request.saved_rf = (info & kRf) != 0;
  if ((info & kHasErrorCode) != 0) {
    request.error_code = static_cast<uint32_t>(info);
  }
  if (request.cause == TaskSwitchCause::kEvent && type == event::kInterrupt) {
    request.source = EventSource::kExternal;
  }
  return request;
}

absl::Status Vcpu::ServeTaskSwitch() {
  const Fetched fetched = emulator_.decoder().Fetch(State(), bus_);
  if (fetched.result.kind == BusResult::Kind::kRetry) return absl::OkStatus();
  return SwitchTask(RequestedSwitch(fetched.instruction.length));
}

absl::Status Vcpu::SwitchTask(const TaskSwitchRequest& request) {
  CpuState state = State();
  const auto load_cr3 = [this](uint64_t cr3) { return !paging_.WriteCr3(cr3); };
  TaskSwitch task_switch(state, bus_, load_cr3);
  const TaskSwitchOutcome outcome = task_switch.Run(request);
  if (outcome.result.kind == BusResult::Kind::kRetry) return absl::OkStatus();
  if (outcome.committed) {
    // What was to be delivered has been: by this switch.
    events_.Forget();
    SetState(state, vmcb_, registers_);
    vmcb_.interrupt_shadow = 0;
    if (const auto refused = paging_.WriteCr0(state.cr0)) Raise(*refused);
  }
  if (outcome.result.kind == BusResult::Kind::kException) {
    Raise(outcome.result.exception);
  } else if (outcome.debug_trap) {
    constexpr uint64_t kTaskSwitch = 1u << 15;  // DR6.BT
    vmcb_.dr6 |= kTaskSwitch;
    Raise({ExceptionVector::kDebug, std::nullopt, {}});
  }
  return absl::OkStatus();
}

absl::Status Vcpu::Emulate() {
  ++statistics_.emulated_instructions;
  CpuState state = State();
  const EmulateOutcome outcome = emulator_.Execute(state, registers_.fpu, bus_);
  if (outcome.kind == EmulateOutcome::Kind::kUnknown) {
    // No instruction at all: as where a guest jumps to memory that is not
    // there, which reads as ones.
    if (outcome.instruction.length == 0) {
      Raise(Exception::InvalidOpcode());
      return absl::OkStatus();
    }
    return absl::UnimplementedError(absl::StrCat(
        "at ", absl::Hex(vmcb_.rip), " an instruction that is not emulated: ",
        emulator_.Describe(outcome.instruction)));
  }
  if (outcome.kind == EmulateOutcome::Kind::kRetry) return absl::OkStatus();
  // Of a repeated instruction that ends in an exception, too, some is done.
  SetState(state, vmcb_, registers_);
  if (outcome.kind == EmulateOutcome::Kind::kException) {
    Raise(outcome.exception);
    return absl::OkStatus();
  }
  vmcb_.interrupt_shadow = outcome.shadow == InterruptShadow::kBegins ? 1 : 0;
  if (outcome.single_step == SingleStep::kDue) {
    constexpr uint64_t kSingleStep = 1u << 14;  // DR6.BS
    vmcb_.dr6 |= kSingleStep;
    Raise({ExceptionVector::kDebug, std::nullopt, {}});
  }
  return absl::OkStatus();
}

}  // namespace hypervisor
