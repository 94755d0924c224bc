#include "emulate/linear.h"

namespace hypervisor {
namespace {

using shadowmmu::AccessType;
using shadowmmu::Gva;

constexpr uint64_t kLinear32 = 0xffffffff;

BusResult Violation(SegmentName name) {
  return BusResult::Inject(name == SegmentName::kSs
                               ? Exception::Stack()
                               : Exception::GeneralProtection());
}

// In real and virtual-8086 mode the attributes are not looked at.
bool TypeAllows(const CpuState& cpu, const Segment& segment, AccessType type) {
  if (!cpu.protected_mode() || cpu.virtual_8086()) return true;
  if (!segment.Has(Segment::kPresent | Segment::kUserSegment)) return false;
  const bool code = segment.Has(Segment::kCode);
  switch (type) {
    case AccessType::kRead:
      return !code || segment.Has(Segment::kReadable);
    case AccessType::kWrite:
      return !code && segment.Has(Segment::kWritable);
    case AccessType::kFetch:
      return code;
  }
  return false;
}

bool WithinLimit(const Segment& segment, uint64_t offset, size_t bytes) {
  const uint64_t last = offset + bytes - 1;
  const bool expand_down = segment.Has(Segment::kExpandDown) &&
                           segment.Has(Segment::kUserSegment) &&
                           !segment.Has(Segment::kCode);
  if (!expand_down) return last <= segment.limit;
  const uint64_t top = segment.Has(Segment::kDefault) ? kLinear32 : 0xffff;
  return offset > segment.limit && last <= top;
}

bool HasBaseIn64BitMode(SegmentName name) {
  return name == SegmentName::kFs || name == SegmentName::kGs;
}

}  // namespace

const Segment& SegmentOf(const CpuState& cpu, SegmentName name) {
  switch (name) {
    case SegmentName::kEs:
      return cpu.es;
    case SegmentName::kCs:
      return cpu.cs;
    case SegmentName::kSs:
      return cpu.ss;
    case SegmentName::kDs:
      return cpu.ds;
    case SegmentName::kFs:
      return cpu.fs;
    case SegmentName::kGs:
      break;
  }
  return cpu.gs;
}

Segment& SegmentOf(CpuState& cpu, SegmentName name) {
  return const_cast<Segment&>(
      SegmentOf(static_cast<const CpuState&>(cpu), name));
}

shadowmmu::Privilege PrivilegeOf(const CpuState& cpu) {
  return cpu.cpl == 3 ? shadowmmu::Privilege::kUser
                      : shadowmmu::Privilege::kSupervisor;
}

bool IsCanonical(const CpuState& cpu, uint64_t address) {
  const unsigned bits = (cpu.cr4 & shadowmmu::cr4::kLa57) != 0 ? 57 : 48;
  const int64_t top = static_cast<int64_t>(address) >> (bits - 1);
  return top == 0 || top == -1;
}

Gva UncheckedAddress(const CpuState& cpu, SegmentName name, uint64_t offset) {
  const uint64_t base = SegmentOf(cpu, name).base;
  if (cpu.mode() == CpuMode::k64Bit) {
    return Gva(HasBaseIn64BitMode(name) ? base + offset : offset);
  }
  return Gva((base + offset) & kLinear32);
}

Gva CodeAddress(const CpuState& cpu, uint64_t rip) {
  return UncheckedAddress(cpu, SegmentName::kCs, rip);
}

Linear LinearAddress(const CpuState& cpu, SegmentName name, uint64_t offset,
                     size_t bytes, AccessType type) {
  const Gva gva = UncheckedAddress(cpu, name, offset);
  if (cpu.mode() == CpuMode::k64Bit) {
    if (!IsCanonical(cpu, gva.value()) ||
        !IsCanonical(cpu, gva.value() + bytes - 1)) {
      return {Violation(name), {}};
    }
    return {BusResult::Ok(), gva};
  }
  const Segment& segment = SegmentOf(cpu, name);
  if (!TypeAllows(cpu, segment, type) || !WithinLimit(segment, offset, bytes)) {
    return {Violation(name), {}};
  }
  return {BusResult::Ok(), gva};
}

uint64_t BytesBelowLimit(const CpuState& cpu, uint64_t rip) {
  if (cpu.mode() == CpuMode::k64Bit) {
    return IsCanonical(cpu, rip) ? kMaxInstructionBytes : 0;
  }
  return rip > cpu.cs.limit ? 0 : cpu.cs.limit - rip + 1;
}

BusResult CheckBranchTarget(const CpuState& cpu, uint64_t rip) {
  return BytesBelowLimit(cpu, rip) == 0
             ? BusResult::Inject(Exception::GeneralProtection())
             : BusResult::Ok();
}

uint64_t EffectiveAddress(const CpuState& cpu, const Instruction& instruction,
                          const MemoryOperand& memory) {
  uint64_t address = memory.displacement;
  if (memory.base) address += cpu.gpr[*memory.base];
  if (memory.index) address += cpu.gpr[*memory.index] * memory.scale;
  return Truncate(address, instruction.address_bytes);
}

}  // namespace hypervisor
