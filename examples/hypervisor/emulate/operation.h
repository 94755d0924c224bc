// What an instruction does, as far as an emulator must tell instructions apart.
//
// An Operation is one line of an instruction reference: forms that differ in
// their operands alone (MOV from memory, MOV of an immediate) are one.

#ifndef HYPERVISOR_EMULATE_OPERATION_H_
#define HYPERVISOR_EMULATE_OPERATION_H_

#include <cstdint>

namespace hypervisor {

enum class Operation : uint8_t {
  kUnknown,  // the decoder knows its length at most

  // operands[0] = f(operands[1])
  kMov,  // operands[0] or [1] may be a segment register
  kMovZeroExtend,
  kMovSignExtend,
  kCmov,  // `condition`
  kSet,   // operands[0] = `condition`

  // operands[0] = f(operands[0], operands[1]), with flags
  kAdd,
  kOr,
  kAdc,
  kSbb,
  kAnd,
  kSub,
  kXor,
  kCmp,   // no result
  kTest,  // no result
  kShl,
  kShr,
  kSar,
  kRol,
  kRor,
  kRcl,
  kRcr,
  kBt,  // no result; a bit offset in a register reaches outside the operand
  kBts,
  kBtr,
  kBtc,

  // operands[0] = f(operands[0])
  kInc,
  kDec,
  kNeg,
  kNot,

  // These exchange, and are atomic with LOCK (XCHG always).
  kXchg,
  kXadd,
  kCmpxchg,
  kCmpxchgPair,  // CMPXCHG8B, CMPXCHG16B

  // The stack.
  kPush,
  kPushFlags,
  kPushAll,
  kPop,
  kCall,  // near; operands[0] is the target, or says where it stands
  kJmp,   // near and indirect
  kRet,   // near; operands[0], if there, is added to rSP

  // Strings: elements of operand_bytes.
  kMovs,
  kCmps,
  kStos,
  kLods,
  kScas,
  kIns,
  kOuts,

  // Port IO: operands[0] and [1] as for MOV, the port an immediate or DX.
  kIn,
  kOut,

  // Products and quotients; the last two of an IMUL's three operands are its
  // factors.
  kMul,
  kImul,
  kDiv,
  kIdiv,
  // operands[0] = the number of a bit of operands[1]
  kBitScanForward,
  kBitScanReverse,
  // operands[0] shifted by operands[2]; bits of operands[1] come in
  kShiftLeftDouble,
  kShiftRightDouble,
  // A procedure's frame: ENTER has a size and a level.
  kEnter,
  kLeave,
  kTranslate,  // XLAT

  // What loads and stores tables and system segments.
  kLoadGdt,
  kLoadIdt,
  kLoadLdt,
  kLoadTask,
  kStoreGdt,
  kStoreIdt,
  kStoreLdt,
  kStoreTask,
  kJmpFar,  // through memory

  // MMX moves: one operand is memory or a general register.
  kMovMmx,

  // SSE moves of `operand_bytes`; the upper part of an XMM register that is
  // loaded by less becomes zero.
  kMovXmm,
  kMovXmmAligned,  // #GP where the address is no multiple of 16
  kMovXmmLow,      // bytes 7:0 of the register; the others stay
  kMovXmmHigh,     // bytes 15:8

  // What no memory operand makes an exit of, for emulate/control.h.
  kMovControl,
  kMovDebug,
  kClts,
  kLmsw,
  kSmsw,
  kInvlpg,
};

// MOVS to OUTS.
constexpr bool IsString(Operation operation) {
  return operation >= Operation::kMovs && operation <= Operation::kOuts;
}

}  // namespace hypervisor

#endif  // HYPERVISOR_EMULATE_OPERATION_H_
