// The instructions that multiply and divide: MUL, IMUL in its three forms, DIV
// and IDIV (APM vol. 3).
//
//  1. Of the status flags a multiplication gives CF and OF; the others, and
//     all of a division, are undefined, and stay as they were.
//
// Thread safety: one thread at a time.

#ifndef HYPERVISOR_EMULATE_MULTIPLY_H_
#define HYPERVISOR_EMULATE_MULTIPLY_H_

#include "emulate/cpu_state.h"
#include "emulate/guest_bus.h"
#include "emulate/instruction.h"
#include "emulate/operands.h"

namespace hypervisor {

// MUL, and IMUL with one operand, two or three.
BusResult Multiply(CpuState& cpu, Operands& operands,
                   const Instruction& instruction);
// DIV and IDIV: #DE where the quotient does not fit.
BusResult Divide(CpuState& cpu, Operands& operands,
                 const Instruction& instruction);

}  // namespace hypervisor

#endif  // HYPERVISOR_EMULATE_MULTIPLY_H_
