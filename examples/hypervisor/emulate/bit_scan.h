// Instructions on the bits of two operands: BSF, BSR, SHLD and SHRD (APM
// vol. 3).
//
// Thread safety: one thread at a time.

#ifndef HYPERVISOR_EMULATE_BIT_SCAN_H_
#define HYPERVISOR_EMULATE_BIT_SCAN_H_

#include "emulate/cpu_state.h"
#include "emulate/guest_bus.h"
#include "emulate/instruction.h"
#include "emulate/operands.h"

namespace hypervisor {

// BSF and BSR. Of a source of zero they set ZF, and leave the destination.
BusResult ScanBits(CpuState& cpu, Operands& operands,
                   const Instruction& instruction);

// SHLD and SHRD.
BusResult ShiftDouble(const CpuState& cpu, Operands& operands,
                      const Instruction& instruction);

}  // namespace hypervisor

#endif  // HYPERVISOR_EMULATE_BIT_SCAN_H_
