// Stack: pushes and pops at SS:rSP.
//
// The stack pointer is as wide as the stack segment says: 64 bits in 64-bit
// mode, elsewhere 32 or 16 by its B bit, and wraps there (APM vol. 2, 4.7.3).
//
// Thread safety: one thread at a time.

#ifndef HYPERVISOR_EMULATE_STACK_H_
#define HYPERVISOR_EMULATE_STACK_H_

#include <cstdint>

#include "emulate/cpu_state.h"
#include "emulate/guest_bus.h"
#include "emulate/operands.h"

namespace hypervisor {

class Stack {
 public:
  // Not owned; must outlive this.
  Stack(CpuState& cpu, Operands& operands) : cpu_(cpu), operands_(operands) {}

  // rSP changes when the access is done, not if it faults.
  BusResult Push(unsigned bytes, uint64_t value);
  BusResult Pop(unsigned bytes, uint64_t& value);
  // Drops `bytes` (RET's operand).
  void Release(uint64_t bytes);

  // How wide rSP is: 2, 4 or 8.
  unsigned PointerBytes() const;

 private:
  CpuState& cpu_;
  Operands& operands_;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_EMULATE_STACK_H_
