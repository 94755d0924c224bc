// Vcpu: one virtual CPU: enters the guest, and serves what it exits for.
//
//  1. Between ExitGuest and EnterGuest the guest's registers are in the VMCB
//     and in SvmRegisters, and nowhere else.
//  2. An exit is served wholly, or RIP stays where it was, and the guest
//     executes the instruction anew.
//
// Thread safety: one thread, on one CPU.

#ifndef HYPERVISOR_VCPU_VCPU_H_
#define HYPERVISOR_VCPU_VCPU_H_

#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "emulate/cpu_state.h"
#include "emulate/emulator.h"
#include "emulate/task_switch.h"
#include "shadowmmu/vcpu_mmu.h"
#include "svm/svm.h"
#include "svm/vmcb.h"
#include "vcpu/bus.h"
#include "vcpu/cpuid.h"
#include "vcpu/events.h"
#include "vcpu/host_timer.h"
#include "vcpu/msrs.h"
#include "vcpu/nmi_window.h"
#include "vcpu/paging.h"
#include "vcpu/task_guard.h"
#include "vcpu/vm.h"
#include "vcpu/vmcb_state.h"

namespace hypervisor {

class Vcpu {
 public:
  // `vm` and `cpuid` outlive the Vcpu. It will start in `first`.
  static absl::StatusOr<std::unique_ptr<Vcpu>> Create(Vm& vm,
                                                      const Cpuid& cpuid,
                                                      const CpuState& first);
  Vcpu(const Vcpu&) = delete;
  Vcpu& operator=(const Vcpu&) = delete;

  // Runs the guest until it has exited once, or is found to have ended
  // (Vm::ended). An error: the hypervisor cannot go on with this guest, and
  // says why.
  absl::Status RunOnce();

 private:
  Vcpu(Vm& vm, const Cpuid& cpuid, std::unique_ptr<shadowmmu::VcpuMmu> mmu);

  // How long a guest runs, at most, before the hypervisor looks at its devices.
  static constexpr uint64_t kQuantum = 4'000'000;  // ns

  // ---- Before an entry ----
  void Deliver();
  void TakeInterrupt();
  bool InterruptsOn() const;
  bool InterruptWaits();
  void TakeNmi();
  absl::Status Enter();
  absl::Status EnterGuarded();

  // The host's tick: when a device has something to do, `most` from now at the
  // latest.
  void ArmTimer(uint64_t now, uint64_t most);

  // ---- After an exit (serve.cc) ----
  absl::Status Serve();
  absl::Status ServePageFault();
  absl::Status ServeFault(const shadowmmu::FaultOutcome& outcome,
                          shadowmmu::Gva gva);
  absl::Status ServePush(const shadowmmu::FaultOutcome& outcome);
  absl::Status ServeControlRegister();
  absl::Status ServeInvlpg();
  absl::Status ServePort();
  absl::Status ServeMsr();
  absl::Status ServeTaskSwitch();
  absl::Status SwitchTask(const TaskSwitchRequest& request);
  TaskSwitchRequest RequestedSwitch(unsigned length) const;
  void ServeCpuid();
  absl::Status ServeHalt();

  absl::Status Emulate();
  // Of an instruction that has been served.
  void Skip(unsigned bytes) { MoveTo(vmcb_.rip + bytes); }
  void MoveTo(uint64_t rip);
  // The trap of RFLAGS.TF after an instruction that has been served.
  void TrapIfStepping();
  void Raise(const Exception& exception) { events_.Raise(exception); }
  // What stands in the VMCB, and the guest's control registers.
  CpuState State() const;

  Vm& vm_;
  const Cpuid& cpuid_;
  const std::unique_ptr<shadowmmu::VcpuMmu> mmu_;
  Vmcb vmcb_;
  SvmRegisters registers_ = {};
  PermissionMaps permissions_;
  Paging paging_;
  Msrs msrs_;
  Bus bus_;
  Emulator emulator_;
  Events events_;
  NmiWindow nmi_window_;
  TaskGuard task_guard_;
  HostTimer timer_;
  // Pushes of event deliveries that were served, in a row.
  static constexpr int kMaxPushes = 8;
  int pushes_ = 0;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_VCPU_VCPU_H_
