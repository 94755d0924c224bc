#include "emulate/decoder.h"

#include <capstone/capstone.h>

#include <algorithm>
#include <new>
#include <optional>

#include "absl/strings/str_cat.h"
#include "emulate/capstone_map.h"
#include "emulate/linear.h"

namespace hypervisor {
namespace {

using shadowmmu::AccessType;
using File = RegisterOperand::File;

constexpr uint8_t kRexW = 1u << 3;

// Capstone tells of prefixes too, but of one of each group only, and not what
// it made of them. The last of a group counts, and a REX prefix only right
// before the opcode (APM vol. 3, 1.2).
struct ScannedPrefixes {
  Prefixes prefixes = {};
  unsigned count = 0;  // bytes
};

std::optional<SegmentName> SegmentPrefix(uint8_t byte) {
  switch (byte) {
    case 0x26:
      return SegmentName::kEs;
    case 0x2e:
      return SegmentName::kCs;
    case 0x36:
      return SegmentName::kSs;
    case 0x3e:
      return SegmentName::kDs;
    case 0x64:
      return SegmentName::kFs;
    case 0x65:
      return SegmentName::kGs;
    default:
      return std::nullopt;
  }
}

// Whether `byte` is a legacy prefix, noted in `prefixes` then.
bool TakeLegacyPrefix(uint8_t byte, Prefixes& prefixes) {
  if (std::optional<SegmentName> segment = SegmentPrefix(byte)) {
    prefixes.segment = segment;
    return true;
  }
  switch (byte) {
    case 0xf0:
      prefixes.lock = true;
      return true;
    case 0xf2:
      prefixes.repeat = Repeat::kWhileNotEqual;
      return true;
    case 0xf3:
      prefixes.repeat = Repeat::kWhileEqual;
      return true;
    case 0x66:
      prefixes.operand_size = true;
      return true;
    case 0x67:
      prefixes.address_size = true;
      return true;
    default:
      return false;
  }
}

ScannedPrefixes ScanPrefixes(CpuMode mode, std::span<const uint8_t> bytes) {
  ScannedPrefixes scanned;
  for (uint8_t byte : bytes) {
    if (TakeLegacyPrefix(byte, scanned.prefixes)) {
      scanned.prefixes.rex = 0;
    } else if (mode == CpuMode::k64Bit && (byte & 0xf0) == 0x40) {
      scanned.prefixes.rex = byte;
    } else {
      break;
    }
    ++scanned.count;
  }
  return scanned;
}

uint8_t AddressBytes(CpuMode mode, const Prefixes& prefixes) {
  switch (mode) {
    case CpuMode::k16Bit:
      return prefixes.address_size ? 4 : 2;
    case CpuMode::k32Bit:
      return prefixes.address_size ? 2 : 4;
    case CpuMode::k64Bit:
      return prefixes.address_size ? 4 : 8;
  }
  return 8;
}

uint8_t OperandBytes(CpuMode mode, const Prefixes& prefixes) {
  if ((prefixes.rex & kRexW) != 0) return 8;
  bool is_16_bit = (mode == CpuMode::k16Bit) != prefixes.operand_size;
  return is_16_bit ? 2 : 4;
}

// Operations on the stack are 64 bits wide in 64-bit mode, or 16.
uint8_t StackOperandBytes(CpuMode mode, const Prefixes& prefixes) {
  uint8_t bytes = OperandBytes(mode, prefixes);
  return mode == CpuMode::k64Bit && bytes == 4 ? 8 : bytes;
}

SegmentName MemorySegment(const Instruction& instruction,
                          std::optional<uint8_t> base) {
  if (std::optional<SegmentName> named = SegmentOverride(instruction)) {
    return *named;
  }
  return base && (*base == kRsp || *base == kRbp) ? SegmentName::kSs
                                                  : SegmentName::kDs;
}

std::optional<uint8_t> GprNumber(x86_reg reg) {
  std::optional<RegisterOperand> known = RegisterFrom(reg);
  if (!known || known->file != File::kGpr) return std::nullopt;
  return known->number;
}

MemoryOperand MemoryFrom(const x86_op_mem& mem, const Instruction& instruction,
                         uint64_t next_rip) {
  MemoryOperand memory;
  memory.base = GprNumber(mem.base);
  // RIZ and EIZ, no index at all, have no number either.
  memory.index = GprNumber(mem.index);
  memory.scale = static_cast<uint8_t>(mem.scale);
  memory.displacement = static_cast<uint64_t>(mem.disp);
  if (mem.base == X86_REG_RIP || mem.base == X86_REG_EIP) {
    memory.displacement += next_rip;
  }
  memory.segment = MemorySegment(instruction, memory.base);
  return memory;
}

// nullopt: an operand that no operation of ours has.
std::optional<Operand> OperandFrom(const cs_x86_op& op,
                                   const Instruction& instruction,
                                   uint64_t next_rip) {
  Operand operand;
  operand.bytes = op.size;
  switch (op.type) {
    case X86_OP_REG: {
      std::optional<RegisterOperand> reg = RegisterFrom(op.reg);
      if (!reg) return std::nullopt;
      operand.kind = Operand::Kind::kRegister;
      operand.reg = *reg;
      return operand;
    }
    case X86_OP_MEM:
      operand.kind = Operand::Kind::kMemory;
      operand.memory = MemoryFrom(op.mem, instruction, next_rip);
      return operand;
    case X86_OP_IMM:
      operand.kind = Operand::Kind::kImmediate;
      operand.immediate = static_cast<uint64_t>(op.imm);
      return operand;
    default:
      return std::nullopt;
  }
}

bool Has(const Instruction& instruction, File file) {
  return instruction.operands[0].Is(file) || instruction.operands[1].Is(file);
}

bool HasMemory(const Instruction& instruction) {
  return instruction.operands[0].is_memory() ||
         instruction.operands[1].is_memory();
}

// Tells apart what Capstone gives one number, and drops the forms of an
// operation that are another's: MOVQ of MMX registers, MOVSS between two.
Operation Refine(const Instruction& instruction) {
  const Operation operation = instruction.operation;
  const bool xmm = Has(instruction, File::kXmm);
  switch (operation) {
    case Operation::kMov:
      if (Has(instruction, File::kControl)) return Operation::kMovControl;
      if (Has(instruction, File::kDebug)) return Operation::kMovDebug;
      return xmm ? Operation::kUnknown : operation;
    case Operation::kMovs:
      if (!xmm) return operation;
      return HasMemory(instruction) ? Operation::kMovXmm : Operation::kUnknown;
    case Operation::kMovXmm:
    case Operation::kMovXmmAligned:
    case Operation::kMovXmmLow:
    case Operation::kMovXmmHigh:
      return xmm && HasMemory(instruction) ? operation : Operation::kUnknown;
    case Operation::kCall:
    case Operation::kJmp:
    case Operation::kRet:
      // AMD's CPUs branch to a 16-bit rIP there, Intel's do not.
      return instruction.mode == CpuMode::k64Bit &&
                     instruction.prefixes.operand_size
                 ? Operation::kUnknown
                 : operation;
    default:
      return xmm ? Operation::kUnknown : operation;
  }
}

uint8_t OperationBytes(const Instruction& instruction) {
  const Operand& first = instruction.operands[0];
  const Operand& second = instruction.operands[1];
  switch (instruction.operation) {
    case Operation::kPush:
    case Operation::kPushFlags:
    case Operation::kPushAll:
    case Operation::kPop:
    case Operation::kCall:
    case Operation::kJmp:
    case Operation::kRet:
      return StackOperandBytes(instruction.mode, instruction.prefixes);
    case Operation::kMov:
      // The sizes of MOV's address-only operands are not to be relied on, nor
      // are those of segment registers: the other operand tells.
      if (first.Is(File::kSegment)) return 2;
      if (second.Is(File::kSegment)) {
        return first.is_memory()
                   ? uint8_t{2}
                   : OperandBytes(instruction.mode, instruction.prefixes);
      }
      return first.is_memory() && !second.is_immediate() ? second.bytes
                                                         : first.bytes;
    case Operation::kOut:
    case Operation::kMovs:
    case Operation::kCmps:
    case Operation::kLods:
    case Operation::kScas:
    case Operation::kOuts:
    case Operation::kMovXmm:
    case Operation::kMovXmmAligned:
    case Operation::kMovXmmLow:
    case Operation::kMovXmmHigh:
      return second.is_memory() || instruction.operation == Operation::kOut
                 ? second.bytes
                 : first.bytes;
    default:
      return first.bytes;
  }
}

// Condition codes are the low four bits of the last opcode byte.
uint8_t ConditionOf(const cs_x86& x86) { return x86.opcode[1] & 0xf; }

}  // namespace

Decoder::Decoder() {
  constexpr cs_mode kModes[] = {CS_MODE_16, CS_MODE_32, CS_MODE_64};
  for (size_t i = 0; i < handles_.size(); ++i) {
    if (cs_open(CS_ARCH_X86, kModes[i], &handles_[i]) != CS_ERR_OK ||
        cs_option(handles_[i], CS_OPT_DETAIL, CS_OPT_ON) != CS_ERR_OK) {
      throw std::bad_alloc();
    }
  }
  insn_ = cs_malloc(handles_[0]);
  if (insn_ == nullptr) throw std::bad_alloc();
}

Decoder::~Decoder() {
  cs_free(insn_, 1);
  for (size_t& handle : handles_) cs_close(&handle);
}

bool Decoder::Disassemble(CpuMode mode, uint64_t rip,
                          std::span<const std::byte> bytes) {
  const uint8_t* code = reinterpret_cast<const uint8_t*>(bytes.data());
  size_t size = bytes.size();
  uint64_t address = rip;
  return cs_disasm_iter(handles_[static_cast<size_t>(mode)], &code, &size,
                        &address, insn_) &&
         insn_->size <= kMaxInstructionBytes;
}

Instruction Decoder::Decode(CpuMode mode, uint64_t rip,
                            std::span<const std::byte> bytes) {
  bytes = bytes.first(std::min<size_t>(bytes.size(), kMaxInstructionBytes));
  if (const Instruction* known = cache_.Find(mode, rip, bytes)) return *known;
  const Instruction decoded = DecodeAnew(mode, rip, bytes);
  cache_.Keep(rip, bytes.size(), decoded);
  return decoded;
}

Instruction Decoder::DecodeAnew(CpuMode mode, uint64_t rip,
                                std::span<const std::byte> bytes) {
  Instruction instruction;
  instruction.mode = mode;
  std::transform(bytes.begin(), bytes.end(), instruction.bytes.begin(),
                 [](std::byte byte) { return static_cast<uint8_t>(byte); });
  if (!Disassemble(mode, rip, bytes)) return instruction;

  const cs_x86& x86 = insn_->detail->x86;
  instruction.length = static_cast<uint8_t>(insn_->size);
  instruction.prefixes = ScanPrefixes(mode, instruction.bytes).prefixes;
  instruction.address_bytes = AddressBytes(mode, instruction.prefixes);
  if (x86.op_count > instruction.operands.size()) return instruction;
  for (size_t i = 0; i < x86.op_count; ++i) {
    std::optional<Operand> operand =
        OperandFrom(x86.operands[i], instruction, rip + instruction.length);
    if (!operand) return instruction;
    instruction.operands[i] = *operand;
  }
  instruction.condition = ConditionOf(x86);
  instruction.operation = OperationFrom(insn_->id);
  instruction.operation = Refine(instruction);
  instruction.operand_bytes = OperationBytes(instruction);
  return instruction;
}

Fetched Decoder::Fetch(const CpuState& cpu, GuestBus& bus) {
  const CpuMode mode = cpu.mode();
  const uint64_t rip = cpu.rip;
  std::array<std::byte, kMaxInstructionBytes> bytes = {};
  const uint64_t limit = BytesBelowLimit(cpu, rip);
  const uint64_t all = std::min<uint64_t>(bytes.size(), limit);
  if (all == 0) return {BusResult::Inject(Exception::GeneralProtection()), {}};

  const shadowmmu::Gva gva = CodeAddress(cpu, rip);
  const BusAccess access = {AccessType::kFetch, PrivilegeOf(cpu)};
  const uint64_t near = std::min<uint64_t>(
      all, shadowmmu::kPageSize - shadowmmu::PageOffset(gva));
  std::span<std::byte> first = std::span(bytes).first(near);
  if (BusResult read = bus.Read(gva, access, first); !read.ok()) {
    return {read, {}};
  }
  Instruction instruction = Decode(mode, rip, first);
  if (instruction.length != 0 || near == bytes.size()) {
    return {BusResult::Ok(), instruction};
  }
  if (near < all) {
    std::span<std::byte> rest = std::span(bytes).subspan(near, all - near);
    BusResult read = bus.Read(CodeAddress(cpu, rip + near), access, rest);
    if (!read.ok()) return {read, {}};
    instruction = Decode(mode, rip, std::span(bytes).first(all));
  }
  if (instruction.length == 0 && all < bytes.size()) {
    return {BusResult::Inject(Exception::GeneralProtection()), {}};
  }
  return {BusResult::Ok(), instruction};
}

std::string Decoder::Describe(const Instruction& instruction) {
  std::string text;
  const size_t length =
      instruction.length == 0 ? kMaxInstructionBytes : instruction.length;
  for (uint8_t byte : std::span(instruction.bytes).first(length)) {
    absl::StrAppend(&text, absl::Hex(byte, absl::kZeroPad2), " ");
  }
  if (!Disassemble(instruction.mode, 0,
                   std::as_bytes(std::span(instruction.bytes)))) {
    return absl::StrCat(text, "(no known instruction)");
  }
  return absl::StrCat(text, insn_->mnemonic, " ", insn_->op_str);
}

}  // namespace hypervisor
