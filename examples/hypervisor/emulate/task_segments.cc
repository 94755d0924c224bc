#include "emulate/task_segments.h"

#include <algorithm>
#include <optional>

#include "emulate/descriptor.h"
#include "emulate/linear.h"
#include "shadowmmu/address.h"

namespace hypervisor {
namespace {

using shadowmmu::Gva;

// Present, DPL 3, data, writable, accessed.
constexpr uint16_t kVirtual8086Attributes = 0xf3;
constexpr uint32_t kVirtual8086Limit = 0xffff;

// CS first: the CPL that the others are checked against is its.
constexpr SegmentName kLoadOrder[] = {SegmentName::kCs, SegmentName::kSs,
                                      SegmentName::kEs, SegmentName::kDs,
                                      SegmentName::kFs, SegmentName::kGs};

Segment Unusable(uint16_t value) {
  Segment segment;
  segment.selector = value;
  return segment;
}

}  // namespace

uint32_t TaskSegments::ErrorCode(uint16_t selector) const {
  return (selector & ~uint32_t{selector::kRpl}) |
         static_cast<uint32_t>(source_);
}

BusResult TaskSegments::Invalid(uint16_t selector) const {
  return BusResult::Inject(Exception::InvalidTss(ErrorCode(selector)));
}

void TaskSegments::SetSelectors(std::span<const uint16_t, 6> selectors,
                                uint16_t ldt) {
  for (unsigned i = 0; i < selectors.size(); ++i) {
    SegmentOf(cpu_, static_cast<SegmentName>(i)) = Unusable(selectors[i]);
  }
  cpu_.ldtr = Unusable(ldt);
}

BusResult TaskSegments::Load() {
  if (BusResult loaded = LoadLdtr(); !loaded.ok()) return loaded;
  if (cpu_.virtual_8086()) {
    LoadVirtual8086();
    return BusResult::Ok();
  }
  for (SegmentName name : kLoadOrder) {
    if (BusResult loaded = LoadSegment(name); !loaded.ok()) return loaded;
  }
  return BusResult::Ok();
}

void TaskSegments::LoadVirtual8086() {
  for (SegmentName name : kLoadOrder) {
    Segment& segment = SegmentOf(cpu_, name);
    LoadRealModeSegment(segment, segment.selector);
    segment.attributes = kVirtual8086Attributes;
    segment.limit = kVirtual8086Limit;
  }
}

BusResult TaskSegments::LoadLdtr() {
  const uint16_t value = cpu_.ldtr.selector;
  if (selector::IsNull(value)) return BusResult::Ok();
  if ((value & selector::kLdt) != 0) return Invalid(value);
  const std::optional<Gva> gva = DescriptorAddress(cpu_, value);
  if (!gva) return Invalid(value);
  uint64_t descriptor = 0;
  if (BusResult read = ReadDescriptor(bus_, *gva, descriptor); !read.ok()) {
    return read;
  }
  const Segment segment = SegmentFrom(value, descriptor);
  const uint16_t type = segment.attributes & Segment::kType;
  if (segment.Has(Segment::kUserSegment) ||
      type != static_cast<uint16_t>(SystemType::kLdt) ||
      !segment.Has(Segment::kPresent)) {
    return Invalid(value);
  }
  cpu_.ldtr = segment;
  return BusResult::Ok();
}

bool TaskSegments::TypeAllowed(SegmentName name, const Segment& segment) const {
  if (!segment.Has(Segment::kUserSegment)) return false;
  const bool code = segment.Has(Segment::kCode);
  const unsigned rpl = segment.selector & selector::kRpl;
  const unsigned dpl = segment.dpl();
  switch (name) {
    case SegmentName::kCs:
      return code &&
             (segment.Has(Segment::kConforming) ? dpl <= rpl : dpl == rpl);
    case SegmentName::kSs:
      return !code && segment.Has(Segment::kWritable) && rpl == cpu_.cpl &&
             dpl == cpu_.cpl;
    default:
      if (code && !segment.Has(Segment::kReadable)) return false;
      return (code && segment.Has(Segment::kConforming)) ||
             std::max<unsigned>(rpl, cpu_.cpl) <= dpl;
  }
}

BusResult TaskSegments::Check(SegmentName name, const Segment& segment) const {
  if (!TypeAllowed(name, segment)) return Invalid(segment.selector);
  if (segment.Has(Segment::kPresent)) return BusResult::Ok();
  const uint32_t code = ErrorCode(segment.selector);
  return BusResult::Inject(name == SegmentName::kSs
                               ? Exception::Stack(code)
                               : Exception::SegmentNotPresent(code));
}

BusResult TaskSegments::LoadSegment(SegmentName name) {
  Segment& target = SegmentOf(cpu_, name);
  const uint16_t value = target.selector;
  if (selector::IsNull(value)) {
    const bool needed = name == SegmentName::kCs || name == SegmentName::kSs;
    return needed ? Invalid(value) : BusResult::Ok();
  }
  const std::optional<Gva> gva = DescriptorAddress(cpu_, value);
  if (!gva) return Invalid(value);
  uint64_t descriptor = 0;
  if (BusResult read = ReadDescriptor(bus_, *gva, descriptor); !read.ok()) {
    return read;
  }
  Segment segment = SegmentFrom(value, descriptor);
  if (BusResult checked = Check(name, segment); !checked.ok()) return checked;
  BusResult marked = ChangeDescriptorType(bus_, *gva, Segment::kAccessed, 0);
  if (!marked.ok()) return marked;
  segment.attributes |= Segment::kAccessed;
  target = segment;
  return BusResult::Ok();
}

}  // namespace hypervisor
