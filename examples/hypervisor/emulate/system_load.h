// Instructions that load or store where tables and system segments are: LTR,
// LLDT, LGDT, LIDT, STR, SLDT, SGDT, SIDT, and a far JMP through memory (APM
// vol. 2, 4.5, 4.6; vol. 3).
//
//  1. They exit only where their operand is no ordinary memory, or in a page
//     table that is watched; the CPU does the rest.
//  2. A far JMP here is one to code. To a gate or to another task it has no
//     destination that is a device's: #GP, as for a descriptor of no such kind.
//
// Thread safety: one thread at a time.

#ifndef HYPERVISOR_EMULATE_SYSTEM_LOAD_H_
#define HYPERVISOR_EMULATE_SYSTEM_LOAD_H_

#include "emulate/cpu_state.h"
#include "emulate/guest_bus.h"
#include "emulate/instruction.h"
#include "emulate/operands.h"

namespace hypervisor {

BusResult LoadTaskRegister(CpuState& cpu, GuestBus& bus, Operands& operands,
                           const Instruction& instruction);
BusResult LoadLdtRegister(CpuState& cpu, GuestBus& bus, Operands& operands,
                          const Instruction& instruction);
// LGDT and LIDT.
BusResult LoadTable(CpuState& cpu, Operands& operands,
                    const Instruction& instruction);
// SGDT and SIDT, and STR and SLDT.
BusResult StoreTable(const CpuState& cpu, Operands& operands,
                     const Instruction& instruction);
BusResult StoreSelector(const CpuState& cpu, Operands& operands,
                        const Instruction& instruction);
BusResult JumpFar(CpuState& cpu, GuestBus& bus, Operands& operands,
                  const Instruction& instruction);

}  // namespace hypervisor

#endif  // HYPERVISOR_EMULATE_SYSTEM_LOAD_H_
