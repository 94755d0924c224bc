// Emulator: executes the one instruction at CS:rIP that the hardware could not:
// a store into a write-tracked page table, an access of a device or of memory
// that is not there, string port IO.
//
//   Emulator emulator;
//   EmulateOutcome outcome = emulator.Execute(cpu, fx, bus);
//
//  1. The instruction is done as a whole, rIP behind it, or nothing of the
//  CPU's
//     state has changed; but for a repeated string instruction, whose elements
//     are done one by one, and count as done.
//  2. Whatever the bytes are, the outcome is one of those below: nothing that a
//     guest does aborts.
//  3. The memory operand need not be why there was an exit: an instruction is
//     executed wherever its operands lie.
//
// Not done: alignment checks (#AC), and debug breakpoints on data.
//
// Thread safety: one thread at a time per object; one for each vCPU.

#ifndef HYPERVISOR_EMULATE_EMULATOR_H_
#define HYPERVISOR_EMULATE_EMULATOR_H_

#include <cstdint>
#include <string>

#include "emulate/cpu_state.h"
#include "emulate/decoder.h"
#include "emulate/exception.h"
#include "emulate/guest_bus.h"
#include "emulate/instruction.h"

namespace hypervisor {

// Whether interrupts wait for one more instruction (after MOV SS, POP SS).
enum class InterruptShadow : uint8_t { kNone, kBegins };
// Whether a #DB with DR6.BS is due now: RFLAGS.TF was set.
enum class SingleStep : uint8_t { kNone, kDue };

struct EmulateOutcome {
  enum class Kind : uint8_t {
    kDone,       // rIP is at the next instruction
    kMore,       // of a REP some elements are done: rIP stays, enter the guest
    kException,  // inject `exception`; rIP is at the instruction
    kRetry,      // nothing is done: enter the guest, it executes it anew
    kUnknown,    // an instruction that is not known here: `instruction` has it,
                 // Describe() writes it
  };
  Kind kind = Kind::kDone;
  Exception exception = {};
  InterruptShadow shadow = InterruptShadow::kNone;
  SingleStep single_step = SingleStep::kNone;
  Instruction instruction = {};
};

class Emulator {
 public:
  Emulator() = default;

  // `fx` holds the guest's XMM registers; read and written by SSE moves only.
  EmulateOutcome Execute(CpuState& cpu, FxsaveImage& fx, GuestBus& bus);

  // For those who decode and do not execute: emulate/control.h.
  Decoder& decoder() { return decoder_; }
  std::string Describe(const Instruction& instruction) {
    return decoder_.Describe(instruction);
  }

 private:
  Decoder decoder_;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_EMULATE_EMULATOR_H_
