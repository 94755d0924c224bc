// The instructions that exchange a register with memory: XCHG, XADD, CMPXCHG,
// CMPXCHG8B, CMPXCHG16B (APM vol. 3).
//
// Those with memory are one atomic step of the bus even without LOCK, which
// they need not be, and which nobody can tell.
//
// Thread safety: one thread at a time.

#ifndef HYPERVISOR_EMULATE_EXCHANGE_H_
#define HYPERVISOR_EMULATE_EXCHANGE_H_

#include "emulate/cpu_state.h"
#include "emulate/guest_bus.h"
#include "emulate/instruction.h"
#include "emulate/operands.h"

namespace hypervisor {

BusResult ExchangeWithRegister(CpuState& cpu, Operands& operands,
                               const Instruction& instruction);
BusResult ExchangeAndAdd(CpuState& cpu, Operands& operands,
                         const Instruction& instruction);
BusResult CompareAndExchange(CpuState& cpu, Operands& operands,
                             const Instruction& instruction);
BusResult CompareAndExchangePair(CpuState& cpu, Operands& operands,
                                 const Instruction& instruction);

}  // namespace hypervisor

#endif  // HYPERVISOR_EMULATE_EXCHANGE_H_
