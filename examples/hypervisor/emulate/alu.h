// Arithmetic as the CPU does it: a result of 1, 2, 4 or 8 bytes, and the status
// flags (APM vol. 3, each instruction; SDM vol. 1, appendix A).
//
//  1. Operands count as far as `bytes` go, and results are truncated to them.
//  2. `flags` is RFLAGS before and after; bits other than the status flags
//  stay.
//  3. A flag that the manuals leave undefined is what common CPUs give: AF of
//     logic is clear, flags of a shift by more than one stay or follow the
//     result.
//
// Thread safety: pure functions.

#ifndef HYPERVISOR_EMULATE_ALU_H_
#define HYPERVISOR_EMULATE_ALU_H_

#include <cstdint>

#include "emulate/operation.h"

namespace hypervisor {

struct AluResult {
  uint64_t value = 0;
  uint64_t flags = 0;
};

// kAdd, kOr, kAdc, kSbb, kAnd, kSub, kXor, kCmp (the value is that of kSub) and
// kTest (that of kAnd).
AluResult Arithmetic(Operation operation, uint64_t a, uint64_t b,
                     unsigned bytes, uint64_t flags);

// kShl, kShr, kSar, kRol, kRor, kRcl, kRcr: of `count` its low five bits count,
// six for 8 bytes.
AluResult Shift(Operation operation, uint64_t a, uint64_t count, unsigned bytes,
                uint64_t flags);

// kInc, kDec, kNeg, kNot.
AluResult Unary(Operation operation, uint64_t a, unsigned bytes,
                uint64_t flags);

// kBt, kBts, kBtr, kBtc: bit `offset` modulo the operand's bits.
AluResult BitTest(Operation operation, uint64_t a, uint64_t offset,
                  unsigned bytes, uint64_t flags);

// Whether condition `tttn` of a Jcc, SETcc or CMOVcc holds.
bool Holds(unsigned condition, uint64_t flags);

}  // namespace hypervisor

#endif  // HYPERVISOR_EMULATE_ALU_H_
