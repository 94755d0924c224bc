// TaskSwitch: a hardware task switch, by JMP, CALL, IRET or an event through a
// task gate (APM vol. 2, 12.2; SDM vol. 3, 7.3). Under SVM it always exits: the
// hardware would load the new task's CR3 as it stands.
//
//  1. Before the commit point an exception is the old task's: its registers are
//     as they were, and of memory only what a repetition writes again.
//  2. From the commit point on an exception is the new task's, raised before
//  its
//     first instruction: the registers are the new task's, as far as they could
//     be loaded.
//  3. Privilege (the DPL of the TSS, or of the task gate) is not checked here:
//     the CPU has done so before it exits (APM vol. 2, 15.14.1).
//
// Thread safety: one thread at a time.

#ifndef HYPERVISOR_EMULATE_TASK_SWITCH_H_
#define HYPERVISOR_EMULATE_TASK_SWITCH_H_

#include <cstdint>
#include <optional>

#include "absl/functional/function_ref.h"
#include "emulate/cpu_state.h"
#include "emulate/guest_bus.h"
#include "emulate/insisting_bus.h"
#include "emulate/task_segments.h"
#include "emulate/tss.h"
#include "shadowmmu/address.h"

namespace hypervisor {

enum class TaskSwitchCause : uint8_t {
  kJump,
  kCall,
  kIret,   // with RFLAGS.NT: the selector is the link of the current TSS
  kEvent,  // an interrupt or exception
};

struct TaskSwitchRequest {
  TaskSwitchCause cause = TaskSwitchCause::kJump;
  uint16_t selector = 0;  // of the new TSS
  // What the old task goes on with: behind a JMP, CALL, IRET or INT; at the
  // instruction that an event interrupted.
  uint64_t saved_rip = 0;
  bool saved_rf = false;  // RFLAGS.RF as it is saved
  // To be pushed on the new task's stack.
  std::optional<uint32_t> error_code = std::nullopt;
  EventSource source = EventSource::kProgram;
};

struct TaskSwitchOutcome {
  // kRetry only before anything has changed.
  BusResult result = {};
  bool committed = false;
  // The new task's T bit: with kOk, a #DB with DR6.BT is due before its first
  // instruction.
  bool debug_trap = false;
};

// MOV to CR3 of the new task's page table, PDPTEs included: from then on the
// bus translates by it. False if the CPU would refuse the value.
using LoadCr3 = absl::FunctionRef<bool(uint64_t cr3)>;

class TaskSwitch {
 public:
  // `load_cr3` is called with CR0.PG set and a 32-bit TSS, even if CR3 stays.
  // Not owned; all must outlive this.
  TaskSwitch(CpuState& cpu, GuestBus& bus, LoadCr3 load_cr3)
      : cpu_(cpu), bus_(bus), insisting_(bus), load_cr3_(load_cr3) {}

  TaskSwitchOutcome Run(const TaskSwitchRequest& request);

 private:
  // A TSS and its descriptor.
  struct Task {
    Segment segment;
    shadowmmu::Gva descriptor = shadowmmu::Gva();
    TssWidth width = TssWidth::k32Bit;
    shadowmmu::Gva base() const { return shadowmmu::Gva(segment.base); }
  };

  // Before the commit point.
  BusResult FindIncoming(const TaskSwitchRequest& request, Task& incoming);
  BusResult FindOutgoing(const TaskSwitchRequest& request, Task& outgoing);
  BusResult ProbeAll(const TaskSwitchRequest& request, const Task& outgoing,
                     const Task& incoming);
  // Writes both tasks and their descriptors, and reads the new one.
  BusResult Exchange(const TaskSwitchRequest& request, const Task& outgoing,
                     const Task& incoming, TaskImage& image);

  // After it.
  BusResult LoadTask(const TaskSwitchRequest& request, const Task& incoming,
                     const TaskImage& image);
  BusResult PushErrorCode(uint32_t code, TssWidth width);

  CpuState& cpu_;
  GuestBus& bus_;
  InsistingBus insisting_;  // from the first write on
  LoadCr3 load_cr3_;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_EMULATE_TASK_SWITCH_H_
