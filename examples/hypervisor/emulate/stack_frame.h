// ENTER and LEAVE: a procedure's frame on the stack (APM vol. 3).
//
// Thread safety: one thread at a time.

#ifndef HYPERVISOR_EMULATE_STACK_FRAME_H_
#define HYPERVISOR_EMULATE_STACK_FRAME_H_

#include "emulate/cpu_state.h"
#include "emulate/guest_bus.h"
#include "emulate/instruction.h"
#include "emulate/operands.h"
#include "emulate/stack.h"

namespace hypervisor {

BusResult EnterFrame(CpuState& cpu, Operands& operands, Stack& stack,
                     const Instruction& instruction);
BusResult LeaveFrame(CpuState& cpu, Stack& stack,
                     const Instruction& instruction);

}  // namespace hypervisor

#endif  // HYPERVISOR_EMULATE_STACK_FRAME_H_
