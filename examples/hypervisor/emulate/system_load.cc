#include "emulate/system_load.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <span>

#include "emulate/descriptor.h"
#include "emulate/linear.h"
#include "emulate/prefix_scan.h"
#include "emulate/word_bytes.h"

namespace hypervisor {
namespace {

using shadowmmu::Gva;

constexpr unsigned kSelectorBytes = 2;
constexpr unsigned kDescriptorBytes = 8;

BusResult Refuse(uint16_t value) {
  return BusResult::Inject(
      Exception::GeneralProtection(value & ~uint32_t{selector::kRpl}));
}

// A descriptor and where it stands.
struct Found {
  Segment segment;
  Gva gva = Gva();
};

BusResult Find(const CpuState& cpu, GuestBus& bus, uint16_t value,
               Found& found) {
  const std::optional<Gva> gva = DescriptorAddress(cpu, value);
  if (!gva) return Refuse(value);
  uint64_t descriptor = 0;
  BusResult read = ReadDescriptor(bus, *gva, descriptor);
  if (!read.ok()) return read;
  found = {SegmentFrom(value, descriptor), *gva};
  return read;
}

// One of a TSS or LDT has 16 bytes in long mode: a base of 64 bits.
BusResult FindSystem(const CpuState& cpu, GuestBus& bus, uint16_t value,
                     Found& found) {
  if ((value & selector::kLdt) != 0) return Refuse(value);
  BusResult read = Find(cpu, bus, value, found);
  if (!read.ok()) return read;
  if (found.segment.Has(Segment::kUserSegment)) return Refuse(value);
  if (!cpu.long_mode()) return read;
  if (!DescriptorAddress(cpu, static_cast<uint16_t>(value + 8))) {
    return Refuse(value);
  }
  uint64_t upper = 0;
  read = ReadDescriptor(bus, found.gva + kDescriptorBytes, upper);
  if (!read.ok()) return read;
  found.segment.base |= upper << 32;
  return IsCanonical(cpu, found.segment.base) ? read : Refuse(value);
}

bool IsType(const Segment& segment, SystemType type) {
  return (segment.attributes & Segment::kType) == static_cast<uint16_t>(type);
}

BusResult CheckSystemCode(const CpuState& cpu) {
  if (!cpu.protected_mode() || cpu.virtual_8086()) {
    return BusResult::Inject(Exception::InvalidOpcode());
  }
  return cpu.cpl == 0 ? BusResult::Ok()
                      : BusResult::Inject(Exception::GeneralProtection());
}

BusResult CheckUmip(const CpuState& cpu) {
  const bool user = cpu.cpl != 0 && (cpu.cr4 & cr4::kUmip) != 0;
  return user ? BusResult::Inject(Exception::GeneralProtection())
              : BusResult::Ok();
}

BusResult LoadSelector(Operands& operands, const Instruction& instruction,
                       uint16_t& value) {
  uint64_t word = 0;
  BusResult loaded =
      operands.Load(instruction.operands[0], kSelectorBytes, word);
  value = static_cast<uint16_t>(word);
  return loaded;
}

// To code of the same privilege.
BusResult FindCode(const CpuState& cpu, GuestBus& bus, uint16_t value,
                   Segment& code) {
  if (selector::IsNull(value)) return Refuse(0);
  Found found;
  if (BusResult read = Find(cpu, bus, value, found); !read.ok()) return read;
  const Segment& segment = found.segment;
  const unsigned rpl = value & selector::kRpl;
  const bool conforming = segment.Has(Segment::kConforming);
  if (!segment.Has(Segment::kUserSegment | Segment::kCode) ||
      (conforming ? segment.dpl() > cpu.cpl
                  : segment.dpl() != cpu.cpl || rpl > cpu.cpl) ||
      (cpu.long_mode() && segment.Has(Segment::kLong | Segment::kDefault))) {
    return Refuse(value);
  }
  if (!segment.Has(Segment::kPresent)) {
    return BusResult::Inject(
        Exception::SegmentNotPresent(value & ~uint32_t{selector::kRpl}));
  }
  BusResult marked =
      ChangeDescriptorType(bus, found.gva, Segment::kAccessed, 0);
  code = segment;
  code.attributes |= Segment::kAccessed;
  code.selector = static_cast<uint16_t>((value & ~selector::kRpl) | cpu.cpl);
  return marked;
}

// Of what stands before a far pointer's selector, or a table's base.
unsigned OffsetBytes(const Instruction& instruction) {
  return OperandBytes(instruction.mode, instruction.prefixes);
}

}  // namespace

BusResult LoadTaskRegister(CpuState& cpu, GuestBus& bus, Operands& operands,
                           const Instruction& instruction) {
  if (BusResult may = CheckSystemCode(cpu); !may.ok()) return may;
  uint16_t value = 0;
  BusResult loaded = LoadSelector(operands, instruction, value);
  if (!loaded.ok()) return loaded;
  if (selector::IsNull(value)) return Refuse(0);
  Found found;
  if (loaded = FindSystem(cpu, bus, value, found); !loaded.ok()) return loaded;
  Segment& segment = found.segment;
  const bool short_tss = IsType(segment, SystemType::kTss16Available);
  if (!IsType(segment, SystemType::kTss32Available) &&
      (!short_tss || cpu.long_mode())) {
    return Refuse(value);
  }
  if (!segment.Has(Segment::kPresent)) {
    return BusResult::Inject(
        Exception::SegmentNotPresent(value & ~uint32_t{selector::kRpl}));
  }
  constexpr uint8_t kBusy = 1u << 1;
  BusResult marked = ChangeDescriptorType(bus, found.gva, kBusy, 0);
  segment.attributes |= kBusy;
  if (marked.ok()) cpu.tr = segment;
  return marked;
}

BusResult LoadLdtRegister(CpuState& cpu, GuestBus& bus, Operands& operands,
                          const Instruction& instruction) {
  if (BusResult may = CheckSystemCode(cpu); !may.ok()) return may;
  uint16_t value = 0;
  BusResult loaded = LoadSelector(operands, instruction, value);
  if (!loaded.ok()) return loaded;
  if (selector::IsNull(value)) {
    cpu.ldtr = {.selector = value};
    return loaded;
  }
  Found found;
  if (loaded = FindSystem(cpu, bus, value, found); !loaded.ok()) return loaded;
  if (!IsType(found.segment, SystemType::kLdt)) return Refuse(value);
  if (!found.segment.Has(Segment::kPresent)) {
    return BusResult::Inject(
        Exception::SegmentNotPresent(value & ~uint32_t{selector::kRpl}));
  }
  cpu.ldtr = found.segment;
  return loaded;
}

BusResult LoadTable(CpuState& cpu, Operands& operands,
                    const Instruction& instruction) {
  if (cpu.cpl != 0) return BusResult::Inject(Exception::GeneralProtection());
  // A limit, and a base of which 24 bits count with operands of 16.
  const bool wide = instruction.mode == CpuMode::k64Bit;
  std::array<std::byte, 10> bytes = {};
  const std::span<std::byte> used = std::span(bytes).first(wide ? 10 : 6);
  BusResult read = operands.ReadBytes(instruction.operands[0], used);
  if (!read.ok()) return read;
  uint64_t base = FromBytes(used.subspan(2));
  if (!wide && OffsetBytes(instruction) == 2) base &= 0xffffff;
  if (!IsCanonical(cpu, base)) {
    return BusResult::Inject(Exception::GeneralProtection());
  }
  Segment& table =
      instruction.operation == Operation::kLoadGdt ? cpu.gdtr : cpu.idtr;
  table.base = base;
  table.limit = static_cast<uint32_t>(FromBytes(used.first(2)));
  return read;
}

BusResult StoreTable(const CpuState& cpu, Operands& operands,
                     const Instruction& instruction) {
  if (BusResult may = CheckUmip(cpu); !may.ok()) return may;
  const bool wide = instruction.mode == CpuMode::k64Bit;
  const Segment& table =
      instruction.operation == Operation::kStoreGdt ? cpu.gdtr : cpu.idtr;
  std::array<std::byte, 10> bytes = {};
  const WordBytes limit = ToBytes(table.limit);
  const WordBytes base = ToBytes(table.base);
  std::copy_n(limit.begin(), 2, bytes.begin());
  std::copy(base.begin(), base.end(), bytes.begin() + 2);
  return operands.WriteBytes(instruction.operands[0],
                             std::span(bytes).first(wide ? 10 : 6));
}

BusResult StoreSelector(const CpuState& cpu, Operands& operands,
                        const Instruction& instruction) {
  if (!cpu.protected_mode() || cpu.virtual_8086()) {
    return BusResult::Inject(Exception::InvalidOpcode());
  }
  if (BusResult may = CheckUmip(cpu); !may.ok()) return may;
  const Segment& segment =
      instruction.operation == Operation::kStoreTask ? cpu.tr : cpu.ldtr;
  return operands.Store(instruction.operands[0], kSelectorBytes,
                        segment.selector);
}

BusResult JumpFar(CpuState& cpu, GuestBus& bus, Operands& operands,
                  const Instruction& instruction) {
  const unsigned bytes = OffsetBytes(instruction);
  std::array<std::byte, 10> pointer = {};
  const std::span<std::byte> used =
      std::span(pointer).first(bytes + kSelectorBytes);
  BusResult read = operands.ReadBytes(instruction.operands[0], used);
  if (!read.ok()) return read;
  const uint64_t rip = FromBytes(used.first(bytes));
  const auto value = static_cast<uint16_t>(FromBytes(used.subspan(bytes)));
  if (!cpu.protected_mode() || cpu.virtual_8086()) {
    LoadRealModeSegment(cpu.cs, value);
  } else {
    BusResult found = FindCode(cpu, bus, value, cpu.cs);
    if (!found.ok()) return found;
  }
  cpu.rip = rip;
  return CheckBranchTarget(cpu, rip);
}

}  // namespace hypervisor
