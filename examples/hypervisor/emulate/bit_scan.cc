#include "emulate/bit_scan.h"

#include <bit>

#include "emulate/linear.h"

namespace hypervisor {
namespace {

__extension__ using Double = unsigned __int128;

// SF, ZF and PF of a shift's result, and the CF and OF given.
uint64_t Flags(uint64_t value, unsigned bytes, bool carry, bool overflow,
               uint64_t flags) {
  flags &= ~rflags::kStatus;
  if (carry) flags |= rflags::kCf;
  if (overflow) flags |= rflags::kOf;
  if (value == 0) flags |= rflags::kZf;
  if ((value >> (8 * bytes - 1) & 1) != 0) flags |= rflags::kSf;
  if (std::popcount(value & 0xff) % 2 == 0) flags |= rflags::kPf;
  return flags;
}

// `count` is at least one, and no more than the operand has bits.
AluResult ShiftIn(bool left, uint64_t old, uint64_t other, unsigned count,
                  unsigned bytes, uint64_t flags) {
  const unsigned bits = 8 * bytes;
  const Double both =
      left ? Double{old} << bits | other : Double{other} << bits | old;
  const uint64_t value = Truncate(
      static_cast<uint64_t>(left ? both >> (bits - count) : both >> count),
      bytes);
  const bool carry = (left ? old >> (bits - count) : old >> (count - 1)) & 1;
  const bool overflow = ((old ^ value) >> (bits - 1) & 1) != 0;
  return {value, Flags(value, bytes, carry, overflow, flags)};
}

}  // namespace

BusResult ScanBits(CpuState& cpu, Operands& operands,
                   const Instruction& instruction) {
  const unsigned bytes = instruction.operand_bytes;
  uint64_t value = 0;
  BusResult loaded = operands.Load(instruction.operands[1], bytes, value);
  if (!loaded.ok()) return loaded;
  if (value == 0) {
    cpu.rflags |= rflags::kZf;
    return loaded;
  }
  cpu.rflags &= ~rflags::kZf;
  const int bit = instruction.operation == Operation::kBitScanForward
                      ? std::countr_zero(value)
                      : 63 - std::countl_zero(value);
  return operands.Store(instruction.operands[0], bytes,
                        static_cast<uint64_t>(bit));
}

BusResult ShiftDouble(const CpuState& cpu, Operands& operands,
                      const Instruction& instruction) {
  const unsigned bytes = instruction.operand_bytes;
  uint64_t other = 0;
  uint64_t count = 0;
  BusResult loaded = operands.Load(instruction.operands[1], bytes, other);
  if (!loaded.ok()) return loaded;
  loaded = operands.Load(instruction.operands[2], 1, count);
  if (!loaded.ok()) return loaded;
  count &= bytes == 8 ? 63 : 31;
  // More than an operand of 16 bits has is undefined.
  if (count > 8 * bytes) count %= 8 * bytes;
  const bool left = instruction.operation == Operation::kShiftLeftDouble;
  const uint64_t flags = cpu.rflags;
  return operands.Modify(instruction.operands[0], bytes, Atomicity::kPlain,
                         [&](uint64_t old) -> AluResult {
                           if (count == 0) return {old, flags};
                           return ShiftIn(left, old, other,
                                          static_cast<unsigned>(count), bytes,
                                          flags);
                         });
}

}  // namespace hypervisor
