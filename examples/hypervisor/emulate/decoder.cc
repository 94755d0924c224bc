#include "emulate/decoder.h"

#include <capstone/capstone.h>

#include <algorithm>
#include <new>
#include <optional>

#include "absl/strings/str_cat.h"
#include "emulate/capstone_map.h"
#include "emulate/linear.h"
#include "emulate/prefix_scan.h"
#include "emulate/xmm_form.h"

namespace hypervisor {
namespace {

using shadowmmu::AccessType;
using File = RegisterOperand::File;

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

// Of a string operation: by bit 0 of the opcode, the last byte, and the
// prefixes, wherever they stand. Capstone overlooks an operand-size prefix that
// stands before a repeat prefix. Ports have no 8 bytes.
uint8_t ElementBytes(const Instruction& instruction) {
  if ((instruction.bytes[instruction.length - 1u] & 1) == 0) return 1;
  const uint8_t bytes = OperandBytes(instruction.mode, instruction.prefixes);
  const bool port = instruction.operation == Operation::kIns ||
                    instruction.operation == Operation::kOuts;
  return port && bytes == 8 ? 4 : bytes;
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

// Tells apart what Capstone gives one number, and drops a form of an operation
// that CPUs do not agree on.
Operation Refine(const Instruction& instruction) {
  const Operation operation = instruction.operation;
  switch (operation) {
    case Operation::kMov:
      if (Has(instruction, File::kControl)) return Operation::kMovControl;
      if (Has(instruction, File::kDebug)) return Operation::kMovDebug;
      return operation;
    case Operation::kCall:
    case Operation::kJmp:
    case Operation::kRet:
      // AMD's CPUs branch to a 16-bit rIP there, Intel's do not.
      return instruction.mode == CpuMode::k64Bit &&
                     instruction.prefixes.operand_size
                 ? Operation::kUnknown
                 : operation;
    default:
      return operation;
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
    case Operation::kMovZeroExtend:
    case Operation::kMovSignExtend:
      // What Capstone says of MOVSXD with a prefix is not so.
      return OperandBytes(instruction.mode, instruction.prefixes);
    case Operation::kOut:
      return second.bytes;
    default:
      return IsString(instruction.operation) ? ElementBytes(instruction)
                                             : first.bytes;
  }
}

// An instruction of integer registers. The operation stays unknown where an
// operand is none of ours.
void TakeInteger(const cs_insn& insn, uint64_t next_rip,
                 Instruction& instruction) {
  const cs_x86& x86 = insn.detail->x86;
  if (x86.op_count > instruction.operands.size()) return;
  for (size_t i = 0; i < x86.op_count; ++i) {
    std::optional<Operand> operand =
        OperandFrom(x86.operands[i], instruction, next_rip);
    if (!operand) return;
    instruction.operands[i] = *operand;
  }
  instruction.operation = OperationFrom(insn.id);
  instruction.operation = Refine(instruction);
  instruction.operand_bytes = OperationBytes(instruction);
}

// Of what Capstone says of such a move, its memory operand's address counts.
void TakeXmmMove(const XmmForm& form, const cs_x86& x86, uint64_t next_rip,
                 Instruction& instruction) {
  const bool store = form.direction == XmmForm::Direction::kStore;
  Operand& memory = instruction.operands[store ? 0 : 1];
  Operand& xmm = instruction.operands[store ? 1 : 0];
  for (size_t i = 0; i < x86.op_count; ++i) {
    if (x86.operands[i].type != X86_OP_MEM) continue;
    memory =
        OperandFrom(x86.operands[i], instruction, next_rip).value_or(Operand{});
    xmm.kind = Operand::Kind::kRegister;
    xmm.reg = {File::kXmm, form.reg};
    instruction.operation = form.operation;
    instruction.operand_bytes = form.bytes;
    return;
  }
}

// One more than an instruction has, so that a second opcode byte is there.
using CodeBytes = std::array<uint8_t, kMaxInstructionBytes + 1>;

// What Capstone is shown. LOCK it takes to be part of some instructions only,
// and whether it may be there is for whoever executes them: another prefix in
// its place decodes alike. Of the prefixes of an XMM move it loses some, and of
// the opcode it need not know more than that an address follows: MOVUPS and
// PSHUFB are as long, and have no prefix.
CodeBytes ForCapstone(std::span<const uint8_t> code, size_t prefixes,
                      const std::optional<XmmForm>& xmm) {
  CodeBytes bytes = {};
  std::copy(code.begin(), code.end(), bytes.begin());
  for (uint8_t& byte : std::span(bytes).first(prefixes)) {
    if (byte == kLockPrefix) byte = kDsPrefix;
    const bool of_opcode = byte == kOperandSizePrefix || byte == kRepnePrefix ||
                           byte == kRepePrefix;
    if (xmm && of_opcode) byte = kDsPrefix;
  }
  if (xmm) {
    uint8_t* opcode = &bytes[prefixes + 1];
    if (*opcode == 0x38) {
      opcode[1] = 0x00;
    } else {
      *opcode = 0x10;
    }
  }
  return bytes;
}

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
                          std::span<const uint8_t> bytes) {
  const uint8_t* code = bytes.data();
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
  ++decoded_;
  return decoded;
}

Instruction Decoder::DecodeAnew(CpuMode mode, uint64_t rip,
                                std::span<const std::byte> bytes) {
  Instruction instruction;
  instruction.mode = mode;
  std::transform(bytes.begin(), bytes.end(), instruction.bytes.begin(),
                 [](std::byte byte) { return static_cast<uint8_t>(byte); });
  const std::span<const uint8_t> code =
      std::span(instruction.bytes).first(bytes.size());
  const ScannedPrefixes scanned = ScanPrefixes(mode, code);
  const std::optional<XmmForm> xmm =
      XmmFormOf(scanned.prefixes, code.subspan(scanned.count));
  const CodeBytes shown = ForCapstone(code, scanned.count, xmm);
  if (!Disassemble(mode, rip, std::span(shown).first(code.size()))) {
    return instruction;
  }
  instruction.length = static_cast<uint8_t>(insn_->size);
  instruction.prefixes = scanned.prefixes;
  instruction.address_bytes = AddressBytes(mode, instruction.prefixes);
  // Of the second opcode byte, of those that have a condition.
  instruction.condition = shown[scanned.count + 1] & 0xf;
  const uint64_t next_rip = rip + instruction.length;
  if (xmm) {
    TakeXmmMove(*xmm, insn_->detail->x86, next_rip, instruction);
  } else {
    TakeInteger(*insn_, next_rip, instruction);
  }
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
  if (!Disassemble(instruction.mode, 0, instruction.bytes)) {
    return absl::StrCat(text, "(no known instruction)");
  }
  return absl::StrCat(text, insn_->mnemonic, " ", insn_->op_str);
}

}  // namespace hypervisor
