// MOVD, MOVQ and MOVNTQ between memory and an MMX register, which is the lower
// part of an x87 one (APM vol. 5; vol. 2, 11.4.4).
//
// Thread safety: one thread at a time.

#ifndef HYPERVISOR_EMULATE_MMX_MOVE_H_
#define HYPERVISOR_EMULATE_MMX_MOVE_H_

#include "emulate/cpu_state.h"
#include "emulate/guest_bus.h"
#include "emulate/instruction.h"
#include "emulate/operands.h"

namespace hypervisor {

// One operand is an MMX register, the other memory or a general register.
BusResult MoveMmx(const CpuState& cpu, FxsaveImage& fx, Operands& operands,
                  const Instruction& instruction);

}  // namespace hypervisor

#endif  // HYPERVISOR_EMULATE_MMX_MOVE_H_
