#include "emulate/multiply.h"

#include "emulate/linear.h"

namespace hypervisor {
namespace {

using File = RegisterOperand::File;
__extension__ using Unsigned = unsigned __int128;
__extension__ using Signed = __int128;

constexpr RegisterOperand kAh = {File::kHighByte, kRax};

// The pair that holds a product or a dividend: AX for bytes, else rDX:rAX.
void WriteHigh(CpuState& cpu, unsigned bytes, uint64_t value) {
  if (bytes == 1) {
    WriteRegister(cpu, kAh, 1, value);
  } else {
    WriteGpr(cpu, kRdx, bytes, value);
  }
}

uint64_t ReadHigh(const CpuState& cpu, unsigned bytes) {
  return bytes == 1 ? ReadRegister(cpu, kAh, 1) : ReadGpr(cpu, kRdx, bytes);
}

Signed Extended(uint64_t value, unsigned bytes) {
  return static_cast<int64_t>(SignExtend(value, bytes));
}

void SetOverflow(CpuState& cpu, bool overflow) {
  constexpr uint64_t kFlags = rflags::kCf | rflags::kOf;
  cpu.rflags = overflow ? cpu.rflags | kFlags : cpu.rflags & ~kFlags;
}

// rAX times the operand, into the pair.
void MultiplyPair(CpuState& cpu, uint64_t factor, unsigned bytes, bool sign) {
  const uint64_t own = ReadGpr(cpu, kRax, bytes);
  const Unsigned product = sign ? static_cast<Unsigned>(Extended(own, bytes) *
                                                        Extended(factor, bytes))
                                : Unsigned{own} * factor;
  const uint64_t low = Truncate(static_cast<uint64_t>(product), bytes);
  const uint64_t high =
      Truncate(static_cast<uint64_t>(product >> (8 * bytes)), bytes);
  WriteGpr(cpu, kRax, bytes, low);
  WriteHigh(cpu, bytes, high);
  const uint64_t insignificant =
      sign && Extended(low, bytes) < 0 ? Truncate(~uint64_t{0}, bytes) : 0;
  SetOverflow(cpu, high != insignificant);
}

BusResult DivideError() {
  return BusResult::Inject({ExceptionVector::kDivideError, std::nullopt, {}});
}

}  // namespace

BusResult Multiply(CpuState& cpu, Operands& operands,
                   const Instruction& instruction) {
  const unsigned bytes = instruction.operand_bytes;
  const auto& [first, second, third] = instruction.operands;
  if (second.kind == Operand::Kind::kNone) {
    uint64_t factor = 0;
    BusResult loaded = operands.Load(first, bytes, factor);
    if (!loaded.ok()) return loaded;
    MultiplyPair(cpu, factor, bytes, instruction.operation == Operation::kImul);
    return loaded;
  }
  // reg = reg * r/m, or reg = r/m * immediate.
  uint64_t a = 0;
  uint64_t b = 0;
  if (BusResult loaded = operands.Load(second, bytes, a); !loaded.ok()) {
    return loaded;
  }
  const Operand& other = third.kind == Operand::Kind::kNone ? first : third;
  if (BusResult loaded = operands.Load(other, bytes, b); !loaded.ok()) {
    return loaded;
  }
  const Signed product = Extended(a, bytes) * Extended(b, bytes);
  const uint64_t low = Truncate(static_cast<uint64_t>(product), bytes);
  SetOverflow(cpu, Extended(low, bytes) != product);
  return operands.Store(first, bytes, low);
}

BusResult Divide(CpuState& cpu, Operands& operands,
                 const Instruction& instruction) {
  const unsigned bytes = instruction.operand_bytes;
  uint64_t divisor = 0;
  BusResult loaded = operands.Load(instruction.operands[0], bytes, divisor);
  if (!loaded.ok()) return loaded;
  if (divisor == 0) return DivideError();
  const unsigned bits = 8 * bytes;
  const Unsigned dividend =
      Unsigned{ReadHigh(cpu, bytes)} << bits | ReadGpr(cpu, kRax, bytes);
  uint64_t quotient = 0;
  uint64_t rest = 0;
  if (instruction.operation == Operation::kDiv) {
    const Unsigned whole = dividend / divisor;
    if (whole >> bits != 0) return DivideError();
    quotient = static_cast<uint64_t>(whole);
    rest = static_cast<uint64_t>(dividend % divisor);
  } else {
    // The pair's sign is its upper half's.
    const unsigned unused = 128 - 2 * bits;
    const Signed signed_dividend =
        static_cast<Signed>(dividend << unused) >> unused;
    const Signed by = Extended(divisor, bytes);
    // The one quotient that 128 bits do not hold.
    if (by == -1 && signed_dividend == -signed_dividend &&
        signed_dividend != 0) {
      return DivideError();
    }
    const Signed whole = signed_dividend / by;
    quotient = Truncate(static_cast<uint64_t>(whole), bytes);
    if (Extended(quotient, bytes) != whole) return DivideError();
    rest = static_cast<uint64_t>(signed_dividend % by);
  }
  WriteGpr(cpu, kRax, bytes, quotient);
  WriteHigh(cpu, bytes, Truncate(rest, bytes));
  return loaded;
}

}  // namespace hypervisor
