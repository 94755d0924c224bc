// Control: what an exit for a control register, a debug register or INVLPG asks
// for, from the instruction at CS:rIP (not every CPU has decode assists: APM
// vol. 2, 15.8.4, 15.33). It decides nothing and changes nothing: whether the
// value is allowed, and what follows from it, is the run loop's business.
//
//   ControlOutcome outcome = DecodeControl(decoder, cpu, bus);
//   switch (outcome.access.kind) {
//     case ControlKind::kWriteControl: ... access.number, access.value ...
//     case ControlKind::kReadControl:
//       FinishRead(cpu, outcome.access, cr3);
//       ...
//   }
//
// Thread safety: one thread at a time.

#ifndef HYPERVISOR_EMULATE_CONTROL_H_
#define HYPERVISOR_EMULATE_CONTROL_H_

#include <cstdint>

#include "emulate/cpu_state.h"
#include "emulate/decoder.h"
#include "emulate/guest_bus.h"
#include "emulate/instruction.h"
#include "shadowmmu/address.h"

namespace hypervisor {

enum class ControlKind : uint8_t {
  kNone,          // another instruction
  kWriteControl,  // MOV CRn: `number`, `value`
  kReadControl,   // MOV from CRn: `number`; FinishRead
  kWriteDebug,    // MOV DRn: `number`, `value`
  kReadDebug,     // MOV from DRn: `number`; FinishRead
  kClts,          // `value` is CR0 with TS clear
  kLmsw,          // `value` is CR0 as LMSW makes it
  kSmsw,          // Emulator::Execute does it as a whole
  kInvlpg,        // `address`, which may be not canonical: then it is no one's
};

struct ControlAccess {
  ControlKind kind = ControlKind::kNone;
  uint8_t number = 0;  // of the control or debug register
  uint8_t gpr = 0;     // of a read: where it goes
  uint8_t bytes = 0;   // of a MOV: 8 in 64-bit mode, else 4
  uint8_t length = 0;  // of the instruction
  uint64_t value = 0;
  shadowmmu::Gva address = shadowmmu::Gva();
};

// The exception, or the retry, is what the fetch or LMSW's memory operand gave;
// `access` counts if the result is kOk.
struct ControlOutcome {
  BusResult result = {};
  ControlAccess access = {};
  Instruction instruction = {};
};

ControlOutcome DecodeControl(Decoder& decoder, const CpuState& cpu,
                             GuestBus& bus);

// rIP to the next instruction; RF is clear after it.
void FinishInstruction(CpuState& cpu, unsigned length);
// The same, and `value` in the register of a read.
void FinishRead(CpuState& cpu, const ControlAccess& access, uint64_t value);

}  // namespace hypervisor

#endif  // HYPERVISOR_EMULATE_CONTROL_H_
