#include "emulate/stack_frame.h"

#include "emulate/linear.h"

namespace hypervisor {
namespace {

// What these push and pop: the decoder gives no size to what has no operand.
unsigned FrameBytes(const Instruction& instruction) {
  const bool prefix = instruction.prefixes.operand_size;
  switch (instruction.mode) {
    case CpuMode::k16Bit:
      return prefix ? 4 : 2;
    case CpuMode::k32Bit:
      return prefix ? 2 : 4;
    case CpuMode::k64Bit:
      return prefix ? 2 : 8;
  }
  return 8;
}

}  // namespace

BusResult EnterFrame(CpuState& cpu, Operands& operands, Stack& stack,
                     const Instruction& instruction) {
  const unsigned bytes = FrameBytes(instruction);
  const unsigned width = stack.PointerBytes();
  constexpr uint64_t kLevels = 31;
  const uint64_t level = instruction.operands[1].immediate & kLevels;
  BusResult pushed = stack.Push(bytes, cpu.gpr[kRbp]);
  if (!pushed.ok()) return pushed;
  const uint64_t frame = ReadGpr(cpu, kRsp, bytes);
  // The frames of the procedures around this one.
  for (uint64_t i = 1; i < level; ++i) {
    const uint64_t at = Truncate(cpu.gpr[kRbp] - i * bytes, width);
    uint64_t outer = 0;
    BusResult read = operands.ReadAt(SegmentName::kSs, at, bytes, outer);
    if (!read.ok()) return read;
    pushed = stack.Push(bytes, outer);
    if (!pushed.ok()) return pushed;
  }
  if (level != 0) {
    pushed = stack.Push(bytes, frame);
    if (!pushed.ok()) return pushed;
  }
  WriteGpr(cpu, kRbp, bytes, frame);
  const uint64_t room = instruction.operands[0].immediate & 0xffff;
  stack.Release(0 - room);
  // What is there must be writable, though nothing is written.
  return operands.ProbeWriteAt(SegmentName::kSs, ReadGpr(cpu, kRsp, width),
                               bytes);
}

BusResult LeaveFrame(CpuState& cpu, Stack& stack,
                     const Instruction& instruction) {
  const unsigned bytes = FrameBytes(instruction);
  const unsigned width = stack.PointerBytes();
  WriteGpr(cpu, kRsp, width, ReadGpr(cpu, kRbp, width));
  uint64_t outer = 0;
  BusResult popped = stack.Pop(bytes, outer);
  if (popped.ok()) WriteGpr(cpu, kRbp, bytes, outer);
  return popped;
}

}  // namespace hypervisor
