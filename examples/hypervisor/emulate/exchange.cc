#include "emulate/exchange.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include "emulate/alu.h"
#include "emulate/linear.h"
#include "emulate/word_bytes.h"

namespace hypervisor {
namespace {

constexpr unsigned kPairBytes = 16;

// Low half from one gpr, high half from another.
std::array<std::byte, kPairBytes> PairOf(const CpuState& cpu, Gpr low, Gpr high,
                                         unsigned half) {
  std::array<std::byte, kPairBytes> pair = {};
  const WordBytes low_bytes = ToBytes(cpu.gpr[low]);
  const WordBytes high_bytes = ToBytes(cpu.gpr[high]);
  std::copy_n(low_bytes.begin(), half, pair.begin());
  std::copy_n(high_bytes.begin(), half, pair.begin() + half);
  return pair;
}

}  // namespace

BusResult ExchangeWithRegister(CpuState& cpu, Operands& operands,
                               const Instruction& instruction) {
  const unsigned bytes = instruction.operand_bytes;
  // Either may be the one in memory.
  const bool second = instruction.operands[1].is_memory();
  const Operand& target = instruction.operands[second ? 1 : 0];
  const Operand& reg = instruction.operands[second ? 0 : 1];
  const uint64_t stored = ReadRegister(cpu, reg.reg, bytes);
  uint64_t loaded = 0;
  BusResult result =
      operands.Modify(target, bytes, Atomicity::kLocked, [&](uint64_t old) {
        loaded = old;
        return AluResult{stored, cpu.rflags};
      });
  if (result.ok()) WriteRegister(cpu, reg.reg, bytes, loaded);
  return result;
}

BusResult ExchangeAndAdd(CpuState& cpu, Operands& operands,
                         const Instruction& instruction) {
  const unsigned bytes = instruction.operand_bytes;
  const Operand& target = instruction.operands[0];
  const Operand& reg = instruction.operands[1];
  const uint64_t added = ReadRegister(cpu, reg.reg, bytes);
  const uint64_t flags = cpu.rflags;
  uint64_t loaded = 0;
  uint64_t sum = 0;
  BusResult result =
      operands.Modify(target, bytes, Atomicity::kLocked, [&](uint64_t old) {
        const AluResult added_up =
            Arithmetic(Operation::kAdd, old, added, bytes, flags);
        loaded = old;
        sum = added_up.value;
        return added_up;
      });
  if (!result.ok()) return result;
  // Where both operands are one register, the sum is what stays in it.
  WriteRegister(cpu, reg.reg, bytes, loaded);
  if (!target.is_memory()) WriteRegister(cpu, target.reg, bytes, sum);
  return result;
}

BusResult CompareAndExchange(CpuState& cpu, Operands& operands,
                             const Instruction& instruction) {
  const unsigned bytes = instruction.operand_bytes;
  const Operand& target = instruction.operands[0];
  const uint64_t compared = ReadGpr(cpu, kRax, bytes);
  const uint64_t desired =
      ReadRegister(cpu, instruction.operands[1].reg, bytes);
  uint64_t held = 0;
  bool equal = false;
  if (target.is_memory()) {
    WordBytes expected = ToBytes(compared);
    const WordBytes replacement = ToBytes(desired);
    const ExchangeResult exchange =
        operands.CompareExchange(target, std::span(expected).first(bytes),
                                 std::span(replacement).first(bytes));
    if (!exchange.result.ok()) return exchange.result;
    equal = exchange.exchanged == Exchanged::kYes;
    held = equal ? compared : FromBytes(std::span(expected).first(bytes));
  } else {
    held = ReadRegister(cpu, target.reg, bytes);
    equal = held == compared;
    if (equal) WriteRegister(cpu, target.reg, bytes, desired);
  }
  if (!equal) WriteGpr(cpu, kRax, bytes, held);
  cpu.rflags =
      Arithmetic(Operation::kCmp, compared, held, bytes, cpu.rflags).flags;
  return BusResult::Ok();
}

BusResult CompareAndExchangePair(CpuState& cpu, Operands& operands,
                                 const Instruction& instruction) {
  const Operand& target = instruction.operands[0];
  const unsigned bytes = instruction.operand_bytes;
  const unsigned half = bytes / 2;
  if (bytes == kPairBytes) {
    const shadowmmu::Gva gva =
        UncheckedAddress(cpu, target.memory.segment, operands.Offset(target));
    if (gva.value() % kPairBytes != 0) {
      return BusResult::Inject(Exception::GeneralProtection());
    }
  }
  std::array<std::byte, kPairBytes> expected = PairOf(cpu, kRax, kRdx, half);
  const std::array<std::byte, kPairBytes> desired =
      PairOf(cpu, kRbx, kRcx, half);
  const ExchangeResult exchange =
      operands.CompareExchange(target, std::span(expected).first(bytes),
                               std::span(desired).first(bytes));
  if (!exchange.result.ok()) return exchange.result;
  if (exchange.exchanged == Exchanged::kYes) {
    cpu.rflags |= rflags::kZf;
    return BusResult::Ok();
  }
  cpu.rflags &= ~rflags::kZf;
  WriteGpr(cpu, kRax, half, FromBytes(std::span(expected).first(half)));
  WriteGpr(cpu, kRdx, half, FromBytes(std::span(expected).subspan(half, half)));
  return BusResult::Ok();
}

}  // namespace hypervisor
