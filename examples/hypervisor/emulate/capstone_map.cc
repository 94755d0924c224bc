#include "emulate/capstone_map.h"

#include <array>

namespace hypervisor {
namespace {

using File = RegisterOperand::File;

struct NamedRegister {
  x86_reg name = X86_REG_INVALID;
  File file = File::kGpr;
  uint8_t number = 0;
};

// All four widths of a register are one line each, in the order of numbers.
constexpr NamedRegister kGprs[] = {
    {X86_REG_AL, File::kGpr, 0},      {X86_REG_AX, File::kGpr, 0},
    {X86_REG_EAX, File::kGpr, 0},     {X86_REG_RAX, File::kGpr, 0},
    {X86_REG_CL, File::kGpr, 1},      {X86_REG_CX, File::kGpr, 1},
    {X86_REG_ECX, File::kGpr, 1},     {X86_REG_RCX, File::kGpr, 1},
    {X86_REG_DL, File::kGpr, 2},      {X86_REG_DX, File::kGpr, 2},
    {X86_REG_EDX, File::kGpr, 2},     {X86_REG_RDX, File::kGpr, 2},
    {X86_REG_BL, File::kGpr, 3},      {X86_REG_BX, File::kGpr, 3},
    {X86_REG_EBX, File::kGpr, 3},     {X86_REG_RBX, File::kGpr, 3},
    {X86_REG_SPL, File::kGpr, 4},     {X86_REG_SP, File::kGpr, 4},
    {X86_REG_ESP, File::kGpr, 4},     {X86_REG_RSP, File::kGpr, 4},
    {X86_REG_BPL, File::kGpr, 5},     {X86_REG_BP, File::kGpr, 5},
    {X86_REG_EBP, File::kGpr, 5},     {X86_REG_RBP, File::kGpr, 5},
    {X86_REG_SIL, File::kGpr, 6},     {X86_REG_SI, File::kGpr, 6},
    {X86_REG_ESI, File::kGpr, 6},     {X86_REG_RSI, File::kGpr, 6},
    {X86_REG_DIL, File::kGpr, 7},     {X86_REG_DI, File::kGpr, 7},
    {X86_REG_EDI, File::kGpr, 7},     {X86_REG_RDI, File::kGpr, 7},
    {X86_REG_AH, File::kHighByte, 0}, {X86_REG_CH, File::kHighByte, 1},
    {X86_REG_DH, File::kHighByte, 2}, {X86_REG_BH, File::kHighByte, 3},
    {X86_REG_ES, File::kSegment, 0},  {X86_REG_CS, File::kSegment, 1},
    {X86_REG_SS, File::kSegment, 2},  {X86_REG_DS, File::kSegment, 3},
    {X86_REG_FS, File::kSegment, 4},  {X86_REG_GS, File::kSegment, 5},
};

// Registers that Capstone numbers one after the other.
struct RegisterRange {
  x86_reg first = X86_REG_INVALID;
  x86_reg last = X86_REG_INVALID;
  File file = File::kGpr;
  uint8_t number = 0;  // of the first
};

constexpr RegisterRange kRanges[] = {
    {X86_REG_R8, X86_REG_R15, File::kGpr, 8},
    {X86_REG_R8B, X86_REG_R15B, File::kGpr, 8},
    {X86_REG_R8D, X86_REG_R15D, File::kGpr, 8},
    {X86_REG_R8W, X86_REG_R15W, File::kGpr, 8},
    {X86_REG_CR0, X86_REG_CR15, File::kControl, 0},
    {X86_REG_DR0, X86_REG_DR15, File::kDebug, 0},
    {X86_REG_MM0, X86_REG_MM7, File::kMmx, 0},
};

struct NamedOperation {
  x86_insn name = X86_INS_INVALID;
  Operation operation = Operation::kUnknown;
};

constexpr NamedOperation kOperations[] = {
    {X86_INS_MOV, Operation::kMov},
    {X86_INS_MOVABS, Operation::kMov},
    {X86_INS_MOVNTI, Operation::kMov},
    {X86_INS_MOVZX, Operation::kMovZeroExtend},
    {X86_INS_MOVSX, Operation::kMovSignExtend},
    {X86_INS_MOVSXD, Operation::kMovSignExtend},
    {X86_INS_CMOVA, Operation::kCmov},
    {X86_INS_CMOVAE, Operation::kCmov},
    {X86_INS_CMOVB, Operation::kCmov},
    {X86_INS_CMOVBE, Operation::kCmov},
    {X86_INS_CMOVE, Operation::kCmov},
    {X86_INS_CMOVG, Operation::kCmov},
    {X86_INS_CMOVGE, Operation::kCmov},
    {X86_INS_CMOVL, Operation::kCmov},
    {X86_INS_CMOVLE, Operation::kCmov},
    {X86_INS_CMOVNE, Operation::kCmov},
    {X86_INS_CMOVNO, Operation::kCmov},
    {X86_INS_CMOVNP, Operation::kCmov},
    {X86_INS_CMOVNS, Operation::kCmov},
    {X86_INS_CMOVO, Operation::kCmov},
    {X86_INS_CMOVP, Operation::kCmov},
    {X86_INS_CMOVS, Operation::kCmov},
    {X86_INS_SETA, Operation::kSet},
    {X86_INS_SETAE, Operation::kSet},
    {X86_INS_SETB, Operation::kSet},
    {X86_INS_SETBE, Operation::kSet},
    {X86_INS_SETE, Operation::kSet},
    {X86_INS_SETG, Operation::kSet},
    {X86_INS_SETGE, Operation::kSet},
    {X86_INS_SETL, Operation::kSet},
    {X86_INS_SETLE, Operation::kSet},
    {X86_INS_SETNE, Operation::kSet},
    {X86_INS_SETNO, Operation::kSet},
    {X86_INS_SETNP, Operation::kSet},
    {X86_INS_SETNS, Operation::kSet},
    {X86_INS_SETO, Operation::kSet},
    {X86_INS_SETP, Operation::kSet},
    {X86_INS_SETS, Operation::kSet},
    {X86_INS_ADD, Operation::kAdd},
    {X86_INS_OR, Operation::kOr},
    {X86_INS_ADC, Operation::kAdc},
    {X86_INS_SBB, Operation::kSbb},
    {X86_INS_AND, Operation::kAnd},
    {X86_INS_SUB, Operation::kSub},
    {X86_INS_XOR, Operation::kXor},
    {X86_INS_CMP, Operation::kCmp},
    {X86_INS_TEST, Operation::kTest},
    {X86_INS_SHL, Operation::kShl},
    {X86_INS_SAL, Operation::kShl},
    {X86_INS_SHR, Operation::kShr},
    {X86_INS_SAR, Operation::kSar},
    {X86_INS_ROL, Operation::kRol},
    {X86_INS_ROR, Operation::kRor},
    {X86_INS_RCL, Operation::kRcl},
    {X86_INS_RCR, Operation::kRcr},
    {X86_INS_BT, Operation::kBt},
    {X86_INS_BTS, Operation::kBts},
    {X86_INS_BTR, Operation::kBtr},
    {X86_INS_BTC, Operation::kBtc},
    {X86_INS_INC, Operation::kInc},
    {X86_INS_DEC, Operation::kDec},
    {X86_INS_NEG, Operation::kNeg},
    {X86_INS_NOT, Operation::kNot},
    {X86_INS_XCHG, Operation::kXchg},
    {X86_INS_XADD, Operation::kXadd},
    {X86_INS_CMPXCHG, Operation::kCmpxchg},
    {X86_INS_CMPXCHG8B, Operation::kCmpxchgPair},
    {X86_INS_CMPXCHG16B, Operation::kCmpxchgPair},
    {X86_INS_PUSH, Operation::kPush},
    {X86_INS_PUSHF, Operation::kPushFlags},
    {X86_INS_PUSHFD, Operation::kPushFlags},
    {X86_INS_PUSHFQ, Operation::kPushFlags},
    {X86_INS_PUSHAW, Operation::kPushAll},
    {X86_INS_PUSHAL, Operation::kPushAll},
    {X86_INS_POP, Operation::kPop},
    {X86_INS_CALL, Operation::kCall},
    {X86_INS_JMP, Operation::kJmp},
    {X86_INS_RET, Operation::kRet},
    {X86_INS_MOVSB, Operation::kMovs},
    {X86_INS_MOVSW, Operation::kMovs},
    {X86_INS_MOVSD, Operation::kMovs},
    {X86_INS_MOVSQ, Operation::kMovs},
    {X86_INS_CMPSB, Operation::kCmps},
    {X86_INS_CMPSW, Operation::kCmps},
    {X86_INS_CMPSD, Operation::kCmps},
    {X86_INS_CMPSQ, Operation::kCmps},
    {X86_INS_STOSB, Operation::kStos},
    {X86_INS_STOSW, Operation::kStos},
    {X86_INS_STOSD, Operation::kStos},
    {X86_INS_STOSQ, Operation::kStos},
    {X86_INS_LODSB, Operation::kLods},
    {X86_INS_LODSW, Operation::kLods},
    {X86_INS_LODSD, Operation::kLods},
    {X86_INS_LODSQ, Operation::kLods},
    {X86_INS_SCASB, Operation::kScas},
    {X86_INS_SCASW, Operation::kScas},
    {X86_INS_SCASD, Operation::kScas},
    {X86_INS_SCASQ, Operation::kScas},
    {X86_INS_INSB, Operation::kIns},
    {X86_INS_INSW, Operation::kIns},
    {X86_INS_INSD, Operation::kIns},
    {X86_INS_OUTSB, Operation::kOuts},
    {X86_INS_OUTSW, Operation::kOuts},
    {X86_INS_OUTSD, Operation::kOuts},
    {X86_INS_IN, Operation::kIn},
    {X86_INS_OUT, Operation::kOut},
    {X86_INS_MUL, Operation::kMul},
    {X86_INS_IMUL, Operation::kImul},
    {X86_INS_DIV, Operation::kDiv},
    {X86_INS_IDIV, Operation::kIdiv},
    {X86_INS_BSF, Operation::kBitScanForward},
    {X86_INS_BSR, Operation::kBitScanReverse},
    {X86_INS_SHLD, Operation::kShiftLeftDouble},
    {X86_INS_SHRD, Operation::kShiftRightDouble},
    {X86_INS_ENTER, Operation::kEnter},
    {X86_INS_LEAVE, Operation::kLeave},
    {X86_INS_XLATB, Operation::kTranslate},
    {X86_INS_LGDT, Operation::kLoadGdt},
    {X86_INS_LIDT, Operation::kLoadIdt},
    {X86_INS_LLDT, Operation::kLoadLdt},
    {X86_INS_LTR, Operation::kLoadTask},
    {X86_INS_SGDT, Operation::kStoreGdt},
    {X86_INS_SIDT, Operation::kStoreIdt},
    {X86_INS_SLDT, Operation::kStoreLdt},
    {X86_INS_STR, Operation::kStoreTask},
    {X86_INS_LJMP, Operation::kJmpFar},
    {X86_INS_MOVD, Operation::kMovMmx},
    {X86_INS_MOVQ, Operation::kMovMmx},
    {X86_INS_MOVNTQ, Operation::kMovMmx},
    {X86_INS_CLTS, Operation::kClts},
    {X86_INS_LMSW, Operation::kLmsw},
    {X86_INS_SMSW, Operation::kSmsw},
    {X86_INS_INVLPG, Operation::kInvlpg},
};

constexpr auto kOperationOf = [] {
  std::array<Operation, X86_INS_ENDING> of = {};
  for (const NamedOperation& named : kOperations) {
    of[named.name] = named.operation;
  }
  return of;
}();

}  // namespace

std::optional<RegisterOperand> RegisterFrom(x86_reg reg) {
  for (const NamedRegister& named : kGprs) {
    if (named.name == reg) return RegisterOperand{named.file, named.number};
  }
  for (const RegisterRange& range : kRanges) {
    if (reg >= range.first && reg <= range.last) {
      return RegisterOperand{
          range.file, static_cast<uint8_t>(range.number + (reg - range.first))};
    }
  }
  return std::nullopt;
}

Operation OperationFrom(unsigned id) {
  return id < kOperationOf.size() ? kOperationOf[id] : Operation::kUnknown;
}

}  // namespace hypervisor
