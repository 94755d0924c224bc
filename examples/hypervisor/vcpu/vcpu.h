// Vcpu: one virtual CPU: enters the guest, and serves what it exits for.
//
//  1. Between ExitGuest and EnterGuest the guest's registers are in the VMCB
//     and in SvmRegisters, and nowhere else.
//  2. An exit is served wholly, or RIP stays where it was, and the guest
//     executes the instruction anew.
//
//  3. From the end of VcpuMmu::EnterGuest to VMRUN nothing is waited for, and
//  no
//     interrupt is taken: what another CPU wants of this one meanwhile is found
//     by RunStates::Begin, or ends the guest's turn at its first instruction.
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
#include "vcpu/board.h"
#include "vcpu/bus.h"
#include "vcpu/cpuid.h"
#include "vcpu/events.h"
#include "vcpu/host_timer.h"
#include "vcpu/msrs.h"
#include "vcpu/nmi_window.h"
#include "vcpu/paging.h"
#include "vcpu/statistics.h"
#include "vcpu/task_guard.h"
#include "vcpu/vm.h"
#include "vcpu/vmcb_state.h"

namespace hypervisor {

class Vcpu {
 public:
  // vCPU `number`, from 0, on the CPU that calls. `vm` and `cpuid` outlive it.
  // It will start in `first`; nullptr: it waits for another one to start it.
  static absl::StatusOr<std::unique_ptr<Vcpu>> Create(Vm& vm,
                                                      const Cpuid& cpuid,
                                                      unsigned number,
                                                      const CpuState* first);
  Vcpu(const Vcpu&) = delete;
  Vcpu& operator=(const Vcpu&) = delete;

  // Runs the guest until it has exited once, or is found to have ended
  // (Vm::ended). An error: the hypervisor cannot go on with this guest, and
  // says why.
  absl::Status RunOnce();

  const ExitStatistics& statistics() const { return statistics_; }

 private:
  Vcpu(Vm& vm, const Cpuid& cpuid, unsigned number,
       std::unique_ptr<shadowmmu::VcpuMmu> mmu);

  // How long a guest runs, at most, before the hypervisor looks at its devices.
  static constexpr uint64_t kQuantum = 4'000'000;  // ns

  // ---- What others have for this one (waiting.cc) ----
  // Asks the board.
  absl::Status Look();
  // Halts until what `posture_` waits for has come, or the guest has ended.
  absl::Status Wait();
  bool WakesUp() const;
  bool InterruptWaits() const;
  // INIT, and the start-up interrupt.
  void Init();
  absl::Status Start(uint8_t page);

  // ---- Before an entry ----
  void Deliver();
  void TakeInterrupt();
  bool InterruptsOn() const;
  absl::Status Enter();
  absl::Status EnterGuarded();
  // In the guest, as far as others know: may SvmRun now?
  absl::StatusOr<bool> Ready();

  // The host's tick: when a device has something to do, `most` from now at the
  // latest.
  void ArmTimer(uint64_t now, uint64_t most);

  // ---- After an exit (serve.cc) ----
  absl::Status Serve();
  absl::Status ServeOthers();
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
  void ServeHalt();

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
  const unsigned number_;
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
  Posture posture_ = Posture::kRuns;
  Board::News news_;  // of the latest Look
  ExitStatistics statistics_;
  // Pushes of event deliveries that were served, in a row.
  static constexpr int kMaxPushes = 8;
  int pushes_ = 0;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_VCPU_VCPU_H_
