// Moves between memory and XMM registers (APM vol. 4): the registers are those
// of an FXSAVE image.
//
// Thread safety: one thread at a time.

#ifndef HYPERVISOR_EMULATE_XMM_MOVE_H_
#define HYPERVISOR_EMULATE_XMM_MOVE_H_

#include "emulate/cpu_state.h"
#include "emulate/guest_bus.h"
#include "emulate/instruction.h"
#include "emulate/operands.h"

namespace hypervisor {

// One of kMovXmm, kMovXmmAligned, kMovXmmLow, kMovXmmHigh. #UD or #NM where the
// guest has not switched SSE on; #GP for an aligned move that is not.
BusResult MoveXmm(const CpuState& cpu, FxsaveImage& fx, Operands& operands,
                  const Instruction& instruction);

}  // namespace hypervisor

#endif  // HYPERVISOR_EMULATE_XMM_MOVE_H_
