#include "emulate/alu.h"

#include <bit>

#include "emulate/cpu_state.h"
#include "emulate/linear.h"

namespace hypervisor {
namespace {

bool SignBit(uint64_t value, unsigned bytes) {
  return ((value >> (8 * bytes - 1)) & 1) != 0;
}

uint64_t If(bool condition, uint64_t flag) { return condition ? flag : 0; }

// SF, ZF and PF, which follow from the result alone.
uint64_t ResultFlags(uint64_t value, unsigned bytes) {
  return If(SignBit(value, bytes), rflags::kSf) | If(value == 0, rflags::kZf) |
         If(std::popcount(value & 0xff) % 2 == 0, rflags::kPf);
}

AluResult WithStatus(uint64_t value, uint64_t status, uint64_t flags) {
  return {value, (flags & ~rflags::kStatus) | status};
}

AluResult AddWithCarry(uint64_t a, uint64_t b, bool carry_in, unsigned bytes,
                       uint64_t flags) {
  const uint64_t value = Truncate(a + b + (carry_in ? 1 : 0), bytes);
  const bool carry = value < a || (carry_in && value == a);
  return WithStatus(
      value,
      ResultFlags(value, bytes) | If(carry, rflags::kCf) |
          If(((a ^ b ^ value) & 0x10) != 0, rflags::kAf) |
          If(SignBit((a ^ value) & (b ^ value), bytes), rflags::kOf),
      flags);
}

AluResult SubtractWithBorrow(uint64_t a, uint64_t b, bool borrow_in,
                             unsigned bytes, uint64_t flags) {
  const uint64_t value = Truncate(a - b - (borrow_in ? 1 : 0), bytes);
  const bool borrow = a < b || (borrow_in && a == b);
  return WithStatus(value,
                    ResultFlags(value, bytes) | If(borrow, rflags::kCf) |
                        If(((a ^ b ^ value) & 0x10) != 0, rflags::kAf) |
                        If(SignBit((a ^ b) & (a ^ value), bytes), rflags::kOf),
                    flags);
}

AluResult Logic(uint64_t value, unsigned bytes, uint64_t flags) {
  return WithStatus(value, ResultFlags(value, bytes), flags);
}

// One step of RCL or RCR: a rotation of the operand with CF as one more bit.
void RotateThroughCarry(Operation operation, unsigned bits, uint64_t& value,
                        bool& carry) {
  if (operation == Operation::kRcl) {
    const bool out = ((value >> (bits - 1)) & 1) != 0;
    value = Truncate((value << 1) | (carry ? 1 : 0), bits / 8);
    carry = out;
  } else {
    const bool out = (value & 1) != 0;
    value = (value >> 1) | (uint64_t{carry ? 1u : 0u} << (bits - 1));
    carry = out;
  }
}

// RCL, RCR, ROL and ROR leave SF, ZF, AF and PF. OF is defined for a count of
// one only; as CPUs do, it is given for each.
AluResult Rotate(Operation operation, uint64_t a, unsigned count,
                 unsigned bytes, uint64_t flags) {
  const unsigned bits = 8 * bytes;
  uint64_t value = a;
  bool carry = (flags & rflags::kCf) != 0;
  if (operation == Operation::kRcl || operation == Operation::kRcr) {
    for (unsigned i = 0; i < count % (bits + 1); ++i) {
      RotateThroughCarry(operation, bits, value, carry);
    }
  } else {
    const unsigned by = count % bits;
    const unsigned left = operation == Operation::kRol ? by : bits - by;
    if (by != 0) value = Truncate((a << left) | (a >> (bits - left)), bytes);
    carry =
        operation == Operation::kRol ? (value & 1) != 0 : SignBit(value, bytes);
  }
  const bool top = SignBit(value, bytes);
  const bool next = ((value >> (bits - 2)) & 1) != 0;
  const bool left =
      operation == Operation::kRol || operation == Operation::kRcl;
  const bool overflow = left ? top != carry : top != next;
  constexpr uint64_t kChanged = rflags::kCf | rflags::kOf;
  return {value, (flags & ~kChanged) | If(carry, rflags::kCf) |
                     If(overflow, rflags::kOf)};
}

AluResult ShiftBits(Operation operation, uint64_t a, unsigned count,
                    unsigned bytes, uint64_t flags) {
  const unsigned bits = 8 * bytes;
  uint64_t value = 0;
  bool carry = false;
  bool overflow = false;
  if (operation == Operation::kShl) {
    value = count >= bits ? 0 : Truncate(a << count, bytes);
    carry = count <= bits && ((a >> (bits - count)) & 1) != 0;
    overflow = SignBit(value, bytes) != carry;
  } else if (operation == Operation::kShr) {
    value = count >= bits ? 0 : a >> count;
    carry = count <= bits && ((a >> (count - 1)) & 1) != 0;
    overflow = SignBit(a, bytes) && count == 1;
  } else {
    const int64_t wide = static_cast<int64_t>(SignExtend(a, bytes));
    value = Truncate(static_cast<uint64_t>(wide >> count), bytes);
    carry = ((wide >> (count - 1)) & 1) != 0;
  }
  return WithStatus(value,
                    ResultFlags(value, bytes) | If(carry, rflags::kCf) |
                        If(overflow, rflags::kOf),
                    flags);
}

}  // namespace

AluResult Arithmetic(Operation operation, uint64_t a, uint64_t b,
                     unsigned bytes, uint64_t flags) {
  a = Truncate(a, bytes);
  b = Truncate(b, bytes);
  const bool carry = (flags & rflags::kCf) != 0;
  switch (operation) {
    case Operation::kAdd:
      return AddWithCarry(a, b, false, bytes, flags);
    case Operation::kAdc:
      return AddWithCarry(a, b, carry, bytes, flags);
    case Operation::kSbb:
      return SubtractWithBorrow(a, b, carry, bytes, flags);
    case Operation::kOr:
      return Logic(a | b, bytes, flags);
    case Operation::kXor:
      return Logic(a ^ b, bytes, flags);
    case Operation::kAnd:
    case Operation::kTest:
      return Logic(a & b, bytes, flags);
    default:
      return SubtractWithBorrow(a, b, false, bytes, flags);
  }
}

AluResult Shift(Operation operation, uint64_t a, uint64_t count, unsigned bytes,
                uint64_t flags) {
  a = Truncate(a, bytes);
  const unsigned masked = static_cast<unsigned>(count & (bytes == 8 ? 63 : 31));
  if (masked == 0) return {a, flags};
  switch (operation) {
    case Operation::kShl:
    case Operation::kShr:
    case Operation::kSar:
      return ShiftBits(operation, a, masked, bytes, flags);
    default:
      return Rotate(operation, a, masked, bytes, flags);
  }
}

AluResult Unary(Operation operation, uint64_t a, unsigned bytes,
                uint64_t flags) {
  a = Truncate(a, bytes);
  switch (operation) {
    case Operation::kNot:
      return {Truncate(~a, bytes), flags};
    case Operation::kNeg:
      return SubtractWithBorrow(0, a, false, bytes, flags);
    default: {
      // INC and DEC leave CF.
      AluResult result = operation == Operation::kInc
                             ? AddWithCarry(a, 1, false, bytes, flags)
                             : SubtractWithBorrow(a, 1, false, bytes, flags);
      result.flags = (result.flags & ~rflags::kCf) | (flags & rflags::kCf);
      return result;
    }
  }
}

AluResult BitTest(Operation operation, uint64_t a, uint64_t offset,
                  unsigned bytes, uint64_t flags) {
  const uint64_t bit = uint64_t{1} << (offset % (8 * bytes));
  uint64_t value = Truncate(a, bytes);
  const bool set = (value & bit) != 0;
  if (operation == Operation::kBts) value |= bit;
  if (operation == Operation::kBtr) value &= ~bit;
  if (operation == Operation::kBtc) value ^= bit;
  return {value, (flags & ~rflags::kCf) | If(set, rflags::kCf)};
}

bool Holds(unsigned condition, uint64_t flags) {
  const bool sign_differs =
      ((flags & rflags::kSf) != 0) != ((flags & rflags::kOf) != 0);
  bool holds = false;
  switch (condition >> 1) {
    case 0:
      holds = (flags & rflags::kOf) != 0;
      break;
    case 1:
      holds = (flags & rflags::kCf) != 0;
      break;
    case 2:
      holds = (flags & rflags::kZf) != 0;
      break;
    case 3:
      holds = (flags & (rflags::kCf | rflags::kZf)) != 0;
      break;
    case 4:
      holds = (flags & rflags::kSf) != 0;
      break;
    case 5:
      holds = (flags & rflags::kPf) != 0;
      break;
    case 6:
      holds = sign_differs;
      break;
    default:
      holds = sign_differs || (flags & rflags::kZf) != 0;
      break;
  }
  return holds != ((condition & 1) != 0);
}

}  // namespace hypervisor
