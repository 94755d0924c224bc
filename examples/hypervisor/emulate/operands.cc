#include "emulate/operands.h"

#include "emulate/linear.h"
#include "emulate/word_bytes.h"

namespace hypervisor {
namespace {

using shadowmmu::AccessType;

// Others may win the race for a locked word this often before the guest is
// entered again, to try anew.
constexpr unsigned kMaxExchanges = 64;

}  // namespace

uint64_t ReadRegister(const CpuState& cpu, RegisterOperand reg,
                      unsigned bytes) {
  const uint64_t value = cpu.gpr[reg.number];
  if (reg.file == RegisterOperand::File::kHighByte) return (value >> 8) & 0xff;
  return Truncate(value, bytes);
}

void WriteRegister(CpuState& cpu, RegisterOperand reg, unsigned bytes,
                   uint64_t value) {
  uint64_t& gpr = cpu.gpr[reg.number];
  if (reg.file == RegisterOperand::File::kHighByte) {
    gpr = (gpr & ~uint64_t{0xff00}) | ((value & 0xff) << 8);
    return;
  }
  const uint64_t kept = bytes < 4 ? gpr & ~Truncate(~uint64_t{0}, bytes) : 0;
  gpr = kept | Truncate(value, bytes);
}

BusAccess Operands::AccessOf(AccessType type) const {
  return {type, PrivilegeOf(cpu_)};
}

uint64_t Operands::Offset(const Operand& operand) const {
  return EffectiveAddress(cpu_, instruction_, operand.memory);
}

BusResult Operands::ReadAt(SegmentName segment, uint64_t offset, unsigned bytes,
                           uint64_t& value) {
  const Linear at =
      LinearAddress(cpu_, segment, offset, bytes, AccessType::kRead);
  if (!at.result.ok()) return at.result;
  WordBytes word = {};
  BusResult read = bus_.Read(at.gva, AccessOf(AccessType::kRead),
                             std::span(word).first(bytes));
  if (read.ok()) value = FromBytes(word);
  return read;
}

BusResult Operands::WriteAt(SegmentName segment, uint64_t offset,
                            unsigned bytes, uint64_t value) {
  const Linear at =
      LinearAddress(cpu_, segment, offset, bytes, AccessType::kWrite);
  if (!at.result.ok()) return at.result;
  const WordBytes word = ToBytes(value);
  return bus_.Write(at.gva, AccessOf(AccessType::kWrite),
                    std::span(word).first(bytes));
}

BusResult Operands::ProbeWriteAt(SegmentName segment, uint64_t offset,
                                 unsigned bytes) {
  const Linear at =
      LinearAddress(cpu_, segment, offset, bytes, AccessType::kWrite);
  if (!at.result.ok()) return at.result;
  return bus_.Probe(at.gva, AccessOf(AccessType::kWrite), bytes);
}

BusResult Operands::ReadBytes(const Operand& operand,
                              std::span<std::byte> out) {
  const Linear at = LinearAddress(cpu_, operand.memory.segment, Offset(operand),
                                  out.size(), AccessType::kRead);
  if (!at.result.ok()) return at.result;
  return bus_.Read(at.gva, AccessOf(AccessType::kRead), out);
}

BusResult Operands::WriteBytes(const Operand& operand,
                               std::span<const std::byte> in) {
  const Linear at = LinearAddress(cpu_, operand.memory.segment, Offset(operand),
                                  in.size(), AccessType::kWrite);
  if (!at.result.ok()) return at.result;
  return bus_.Write(at.gva, AccessOf(AccessType::kWrite), in);
}

ExchangeResult Operands::CompareExchange(const Operand& operand,
                                         std::span<std::byte> expected,
                                         std::span<const std::byte> desired) {
  const Linear at = LinearAddress(cpu_, operand.memory.segment, Offset(operand),
                                  expected.size(), AccessType::kWrite);
  if (!at.result.ok()) return {at.result, Exchanged::kNo};
  return bus_.CompareExchange(at.gva, AccessOf(AccessType::kWrite), expected,
                              desired);
}

BusResult Operands::Load(const Operand& operand, unsigned bytes,
                         uint64_t& value) {
  switch (operand.kind) {
    case Operand::Kind::kRegister:
      value = operand.Is(RegisterOperand::File::kSegment)
                  ? SegmentOf(cpu_, SegmentName{operand.reg.number}).selector
                  : ReadRegister(cpu_, operand.reg, bytes);
      return BusResult::Ok();
    case Operand::Kind::kMemory:
      return ReadAt(operand.memory.segment, Offset(operand), bytes, value);
    case Operand::Kind::kImmediate:
      value = Truncate(operand.immediate, bytes);
      return BusResult::Ok();
    case Operand::Kind::kNone:
      break;
  }
  value = 0;
  return BusResult::Ok();
}

BusResult Operands::Store(const Operand& operand, unsigned bytes,
                          uint64_t value) {
  if (operand.is_memory()) {
    return WriteAt(operand.memory.segment, Offset(operand), bytes, value);
  }
  WriteRegister(cpu_, operand.reg, bytes, value);
  return BusResult::Ok();
}

BusResult Operands::Modify(const Operand& operand, unsigned bytes,
                           Atomicity atomicity, Modification modify) {
  if (!operand.is_memory()) {
    AluResult result = modify(ReadRegister(cpu_, operand.reg, bytes));
    WriteRegister(cpu_, operand.reg, bytes, result.value);
    cpu_.rflags = result.flags;
    return BusResult::Ok();
  }
  return atomicity == Atomicity::kLocked ? ModifyLocked(operand, bytes, modify)
                                         : ModifyPlain(operand, bytes, modify);
}

BusResult Operands::ModifyPlain(const Operand& operand, unsigned bytes,
                                Modification modify) {
  const Linear at = LinearAddress(cpu_, operand.memory.segment, Offset(operand),
                                  bytes, AccessType::kWrite);
  if (!at.result.ok()) return at.result;
  const BusAccess access = AccessOf(AccessType::kWrite);
  WordBytes word = {};
  BusResult read = bus_.Read(at.gva, access, std::span(word).first(bytes));
  if (!read.ok()) return read;
  const AluResult result = modify(FromBytes(word));
  word = ToBytes(result.value);
  BusResult written = bus_.Write(at.gva, access, std::span(word).first(bytes));
  if (written.ok()) cpu_.rflags = result.flags;
  return written;
}

BusResult Operands::ModifyLocked(const Operand& operand, unsigned bytes,
                                 Modification modify) {
  const Linear at = LinearAddress(cpu_, operand.memory.segment, Offset(operand),
                                  bytes, AccessType::kWrite);
  if (!at.result.ok()) return at.result;
  const BusAccess access = AccessOf(AccessType::kWrite);
  WordBytes word = {};
  std::span<std::byte> held = std::span(word).first(bytes);
  if (BusResult read = bus_.Read(at.gva, access, held); !read.ok()) return read;
  for (unsigned i = 0; i < kMaxExchanges; ++i) {
    const AluResult result = modify(FromBytes(word));
    const WordBytes desired = ToBytes(result.value);
    ExchangeResult exchange = bus_.CompareExchange(
        at.gva, access, held, std::span(desired).first(bytes));
    if (!exchange.result.ok()) return exchange.result;
    if (exchange.exchanged == Exchanged::kYes) {
      cpu_.rflags = result.flags;
      return BusResult::Ok();
    }
  }
  return BusResult::Retry();
}

}  // namespace hypervisor
