// TaskGuard: hardware task switches under a CPU that does not exit for them.
//
// QEMU's TCG has no TASK_SWITCH intercept: it switches by itself, and takes the
// new task's CR3 for the real one. But before it changes anything it reads the
// current TSS. So, while the guest could switch tasks (protected mode, no long
// mode), it runs with its TSS moved to where nothing is mapped: what reads the
// TSS is a page fault there, and the hypervisor looks what it was for. A switch
// it emulates; for all else (a stack of another ring, the port bitmap) the
// guest has its TSS back until the next exit.
//
//  1. Between an exit and the next entry the VMCB has the guest's own TR.
//  2. A guest never sees the place: no instruction reads TR's base.
//
// A CPU that has the intercept needs none of this.
//
// Thread safety: belongs to one vCPU.

#ifndef HYPERVISOR_VCPU_TASK_GUARD_H_
#define HYPERVISOR_VCPU_TASK_GUARD_H_

#include <cstdint>
#include <optional>

#include "emulate/cpu_state.h"
#include "emulate/decoder.h"
#include "emulate/task_switch.h"
#include "svm/vmcb.h"
#include "vcpu/bus.h"
#include "vcpu/paging.h"

namespace hypervisor {

class TaskGuard {
 public:
  // Guards under TCG only.
  TaskGuard();

  // `bus` tells what is mapped.
  void BeforeEntry(const Paging& paging, Bus& bus, Vmcb& vmcb);
  void AfterExit(Vmcb& vmcb);

  // Whether a page fault there was a look at the TSS.
  bool IsLookAtTss(uint64_t gva) const;
  // The task switch that the look was for. nullopt: for something else, and
  // the guest has its TSS back until it exits again.
  std::optional<TaskSwitchRequest> SwitchAt(const CpuState& state,
                                            const Vmcb& vmcb, Bus& bus,
                                            Decoder& decoder);

 private:
  std::optional<TaskSwitchRequest> SwitchByEvent(const CpuState& state,
                                                 const Vmcb& vmcb, Bus& bus,
                                                 unsigned length);
  std::optional<TaskSwitchRequest> SwitchByInstruction(
      const CpuState& state, Bus& bus, const Instruction& instruction);

  const bool active_;
  bool moved_ = false;    // for this turn of the guest
  bool trusted_ = false;  // for the next turn
  uint64_t own_base_ = 0;
  uint64_t place_ = 0;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_VCPU_TASK_GUARD_H_
