#include "emulate/segment_load.h"

#include <algorithm>
#include <optional>

#include "emulate/descriptor.h"
#include "emulate/linear.h"
#include "shadowmmu/address.h"

namespace hypervisor {
namespace {

// An error code names the selector without its RPL.
uint32_t ErrorCode(uint16_t value) { return value & ~uint32_t{3}; }

BusResult Refuse(uint16_t value) {
  return BusResult::Inject(Exception::GeneralProtection(ErrorCode(value)));
}

// Only 64-bit mode has a null stack segment, and not at CPL 3.
BusResult LoadNull(CpuState& cpu, SegmentName name, uint16_t value) {
  if (name == SegmentName::kSs &&
      (cpu.mode() != CpuMode::k64Bit || cpu.cpl == 3 ||
       (value & selector::kRpl) != cpu.cpl)) {
    return BusResult::Inject(Exception::GeneralProtection());
  }
  Segment null;
  null.selector = value;
  // The CPU keeps the CPL in the DPL of a null SS.
  if (name == SegmentName::kSs) {
    null.attributes = static_cast<uint16_t>(cpu.cpl << 5);
  }
  SegmentOf(cpu, name) = null;
  return BusResult::Ok();
}

bool MayBeStack(const CpuState& cpu, uint16_t value, const Segment& segment) {
  return (value & selector::kRpl) == cpu.cpl &&
         segment.Has(Segment::kUserSegment | Segment::kWritable) &&
         !segment.Has(Segment::kCode) && segment.dpl() == cpu.cpl;
}

bool MayBeData(const CpuState& cpu, uint16_t value, const Segment& segment) {
  if (!segment.Has(Segment::kUserSegment)) return false;
  const bool code = segment.Has(Segment::kCode);
  if (code && !segment.Has(Segment::kReadable)) return false;
  if (code && segment.Has(Segment::kConforming)) return true;
  const unsigned rpl = value & selector::kRpl;
  return std::max<unsigned>(rpl, cpu.cpl) <= segment.dpl();
}

}  // namespace

BusResult LoadSegment(CpuState& cpu, GuestBus& bus, SegmentName name,
                      uint16_t value) {
  if (!cpu.protected_mode() || cpu.virtual_8086()) {
    LoadRealModeSegment(SegmentOf(cpu, name), value);
    return BusResult::Ok();
  }
  if (selector::IsNull(value)) return LoadNull(cpu, name, value);
  const std::optional<shadowmmu::Gva> gva = DescriptorAddress(cpu, value);
  if (!gva) return Refuse(value);
  uint64_t descriptor = 0;
  if (BusResult read = ReadDescriptor(bus, *gva, descriptor); !read.ok()) {
    return read;
  }
  Segment segment = SegmentFrom(value, descriptor);
  const bool stack = name == SegmentName::kSs;
  if (stack ? !MayBeStack(cpu, value, segment)
            : !MayBeData(cpu, value, segment)) {
    return Refuse(value);
  }
  if (!segment.Has(Segment::kPresent)) {
    return BusResult::Inject(
        stack ? Exception::Stack(ErrorCode(value))
              : Exception::SegmentNotPresent(ErrorCode(value)));
  }
  BusResult marked = ChangeDescriptorType(bus, *gva, Segment::kAccessed, 0);
  if (!marked.ok()) return marked;
  segment.attributes |= Segment::kAccessed;
  SegmentOf(cpu, name) = segment;
  return BusResult::Ok();
}

}  // namespace hypervisor
