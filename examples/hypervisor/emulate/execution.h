// Execution: one instruction that is not a string one, on a CPU whose state may
// be thrown away if it faults.
//
// rIP is already at the next instruction: a branch sets it, everything else
// leaves it.
//
// Thread safety: one thread at a time.

#ifndef HYPERVISOR_EMULATE_EXECUTION_H_
#define HYPERVISOR_EMULATE_EXECUTION_H_

#include <cstdint>

#include "emulate/cpu_state.h"
#include "emulate/emulator.h"
#include "emulate/guest_bus.h"
#include "emulate/instruction.h"
#include "emulate/operands.h"
#include "emulate/stack.h"

namespace hypervisor {

class Execution {
 public:
  // Whether Run() does it.
  static bool Knows(Operation operation);

  // Not owned; must outlive this.
  Execution(CpuState& cpu, FxsaveImage& fx, GuestBus& bus,
            const Instruction& instruction);

  // If it is not kOk, `cpu` is to be dropped; memory has not changed, but for
  // pushes below rSP.
  BusResult Run();
  InterruptShadow shadow() const { return shadow_; }

 private:
  BusResult Move();
  BusResult Extend();
  BusResult MoveIf();
  BusResult SetIf();
  BusResult Calculate();
  BusResult Compare();
  BusResult ShiftOperand();
  BusResult TestBit();
  BusResult ChangeOne();
  BusResult Push();
  BusResult PushFlags();
  BusResult PushAll();
  BusResult Pop();
  BusResult Call();
  BusResult Jump();
  BusResult Return();
  BusResult Input();
  BusResult Output();
  BusResult StoreMachineStatus();
  BusResult Translate();

  BusResult StoreSegment(const Operand& operand, uint64_t selector);
  BusResult LoadTarget(uint64_t& rip);
  Atomicity atomicity() const;
  const Operand& first() const { return instruction_.operands[0]; }
  const Operand& second() const { return instruction_.operands[1]; }

  CpuState& cpu_;
  FxsaveImage& fx_;
  GuestBus& bus_;
  const Instruction& instruction_;
  Operands operands_;
  Stack stack_;
  const unsigned bytes_;
  InterruptShadow shadow_ = InterruptShadow::kNone;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_EMULATE_EXECUTION_H_
