#include "emulate/control.h"

#include "emulate/linear.h"
#include "emulate/operands.h"

namespace hypervisor {
namespace {

using File = RegisterOperand::File;

// LMSW writes these bits of CR0, and cannot clear PE (APM vol. 3, LMSW).
constexpr uint64_t kMachineStatus = cr0::kPe | cr0::kMp | cr0::kEm | cr0::kTs;
constexpr uint8_t kCr8 = 8;

ControlAccess MoveAccess(const CpuState& cpu, const Instruction& instruction) {
  const bool control = instruction.operation == Operation::kMovControl;
  const File file = control ? File::kControl : File::kDebug;
  const bool write = instruction.operands[0].Is(file);
  const RegisterOperand special = instruction.operands[write ? 0 : 1].reg;
  const RegisterOperand gpr = instruction.operands[write ? 1 : 0].reg;
  ControlAccess access;
  access.bytes = instruction.mode == CpuMode::k64Bit ? 8 : 4;
  access.number = special.number;
  // AMD's way to CR8 outside 64-bit mode (APM vol. 3, MOV CRn).
  if (control && instruction.prefixes.lock && special.number == 0) {
    access.number = kCr8;
  }
  access.gpr = gpr.number;
  access.length = instruction.length;
  if (write) {
    access.kind =
        control ? ControlKind::kWriteControl : ControlKind::kWriteDebug;
    access.value = ReadRegister(cpu, gpr, access.bytes);
  } else {
    access.kind = control ? ControlKind::kReadControl : ControlKind::kReadDebug;
  }
  return access;
}

}  // namespace

ControlOutcome DecodeControl(Decoder& decoder, const CpuState& cpu,
                             GuestBus& bus) {
  const Fetched fetched = decoder.Fetch(cpu, bus);
  ControlOutcome outcome = {fetched.result, {}, fetched.instruction};
  if (!outcome.result.ok()) return outcome;
  const Instruction& instruction = outcome.instruction;
  ControlAccess& access = outcome.access;
  access.length = instruction.length;
  switch (instruction.operation) {
    case Operation::kMovControl:
    case Operation::kMovDebug:
      access = MoveAccess(cpu, instruction);
      return outcome;
    case Operation::kClts:
      access.kind = ControlKind::kClts;
      access.value = cpu.cr0 & ~cr0::kTs;
      return outcome;
    case Operation::kSmsw:
      access.kind = ControlKind::kSmsw;
      return outcome;
    case Operation::kLmsw: {
      CpuState copy = cpu;
      Operands operands(copy, bus, instruction);
      uint64_t word = 0;
      outcome.result = operands.Load(instruction.operands[0], 2, word);
      access.kind = ControlKind::kLmsw;
      access.value = (cpu.cr0 & ~kMachineStatus) | (word & kMachineStatus) |
                     (cpu.cr0 & cr0::kPe);
      return outcome;
    }
    case Operation::kInvlpg: {
      const MemoryOperand& memory = instruction.operands[0].memory;
      access.kind = ControlKind::kInvlpg;
      access.address = UncheckedAddress(
          cpu, memory.segment, EffectiveAddress(cpu, instruction, memory));
      return outcome;
    }
    default:
      return outcome;
  }
}

void FinishInstruction(CpuState& cpu, unsigned length) {
  AdvanceRip(cpu, length);
  cpu.rflags &= ~rflags::kRf;
}

void FinishRead(CpuState& cpu, const ControlAccess& access, uint64_t value) {
  WriteGpr(cpu, access.gpr, access.bytes, value);
  FinishInstruction(cpu, access.length);
}

}  // namespace hypervisor
