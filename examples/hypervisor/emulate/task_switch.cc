#include "emulate/task_switch.h"

#include <algorithm>

#include "emulate/descriptor.h"
#include "emulate/instruction.h"
#include "emulate/linear.h"
#include "emulate/operands.h"
#include "emulate/stack.h"

namespace hypervisor {
namespace {

using shadowmmu::Gva;

constexpr uint8_t kBusy = 1u << 1;  // of a TSS descriptor's type
// Local enables of DR7: L0 to L3, and LE.
constexpr uint64_t kDr7Local = 0x155;
// Bits of RFLAGS that a 32-bit TSS loads.
constexpr uint64_t kLoadedFlags = rflags::kStatus | rflags::kTf | rflags::kIf |
                                  rflags::kDf | rflags::kIopl | rflags::kNt |
                                  rflags::kRf | rflags::kVm | rflags::kAc |
                                  rflags::kVif | rflags::kVip | rflags::kId;
// What cannot start anew any more has no retry.
BusResult WithoutRetry(const BusResult& result) {
  return result.kind == BusResult::Kind::kRetry
             ? BusResult::Inject(Exception::DoubleFault())
             : result;
}

uint32_t ErrorCode(const TaskSwitchRequest& request, uint16_t selector) {
  return (selector & ~uint32_t{selector::kRpl}) |
         static_cast<uint32_t>(request.source);
}

BusResult InvalidTss(const TaskSwitchRequest& request, uint16_t selector) {
  return BusResult::Inject(Exception::InvalidTss(ErrorCode(request, selector)));
}

// A selector that names no TSS that may be switched to.
BusResult Refuse(const TaskSwitchRequest& request) {
  if (request.cause == TaskSwitchCause::kIret) {
    return InvalidTss(request, request.selector);
  }
  return BusResult::Inject(
      Exception::GeneralProtection(ErrorCode(request, request.selector)));
}

// IRET goes back to a task that is busy, all others to one that is not.
std::optional<TssWidth> WidthOf(const Segment& segment, bool busy) {
  if (segment.Has(Segment::kUserSegment)) return std::nullopt;
  const auto type =
      static_cast<SystemType>(segment.attributes & Segment::kType);
  if (type == (busy ? SystemType::kTss32Busy : SystemType::kTss32Available)) {
    return TssWidth::k32Bit;
  }
  if (type == (busy ? SystemType::kTss16Busy : SystemType::kTss16Available)) {
    return TssWidth::k16Bit;
  }
  return std::nullopt;
}

// Tasks that come back to the one that called them.
bool IsNested(TaskSwitchCause cause) {
  return cause == TaskSwitchCause::kCall || cause == TaskSwitchCause::kEvent;
}

TaskImage ImageOf(const CpuState& cpu, const TaskSwitchRequest& request) {
  TaskImage image;
  uint64_t flags = cpu.rflags & ~rflags::kRf;
  if (request.saved_rf) flags |= rflags::kRf;
  if (request.cause == TaskSwitchCause::kIret) flags &= ~rflags::kNt;
  image.rip = static_cast<uint32_t>(request.saved_rip);
  image.rflags = static_cast<uint32_t>(flags);
  std::transform(cpu.gpr.begin(), cpu.gpr.begin() + image.gpr.size(),
                 image.gpr.begin(),
                 [](uint64_t value) { return static_cast<uint32_t>(value); });
  for (unsigned i = 0; i < image.selectors.size(); ++i) {
    image.selectors[i] = SegmentOf(cpu, static_cast<SegmentName>(i)).selector;
  }
  return image;
}

}  // namespace

TaskSwitchOutcome TaskSwitch::Run(const TaskSwitchRequest& request) {
  Task incoming;
  Task outgoing;
  if (BusResult found = FindIncoming(request, incoming); !found.ok()) {
    return {.result = found};
  }
  if (BusResult found = FindOutgoing(request, outgoing); !found.ok()) {
    return {.result = found};
  }
  if (BusResult all = ProbeAll(request, outgoing, incoming); !all.ok()) {
    return {.result = all};
  }
  TaskImage image;
  const BusResult exchanged =
      WithoutRetry(Exchange(request, outgoing, incoming, image));
  if (!exchanged.ok()) return {.result = exchanged};
  const BusResult loaded = WithoutRetry(LoadTask(request, incoming, image));
  return {.result = loaded, .committed = true, .debug_trap = image.debug_trap};
}

BusResult TaskSwitch::FindIncoming(const TaskSwitchRequest& request,
                                   Task& incoming) {
  // Long mode has no task switches.
  if (cpu_.long_mode() || (request.selector & selector::kLdt) != 0 ||
      selector::IsNull(request.selector)) {
    return Refuse(request);
  }
  const std::optional<Gva> gva = DescriptorAddress(cpu_, request.selector);
  if (!gva) return Refuse(request);
  uint64_t descriptor = 0;
  BusResult read = ReadDescriptor(bus_, *gva, descriptor);
  if (!read.ok()) return read;
  incoming.descriptor = *gva;
  incoming.segment = SegmentFrom(request.selector, descriptor);
  const std::optional<TssWidth> width =
      WidthOf(incoming.segment, request.cause == TaskSwitchCause::kIret);
  if (!width) return Refuse(request);
  incoming.width = *width;
  if (!incoming.segment.Has(Segment::kPresent)) {
    return BusResult::Inject(
        Exception::SegmentNotPresent(ErrorCode(request, request.selector)));
  }
  if (incoming.segment.limit < TssBytes(*width) - 1) {
    return InvalidTss(request, request.selector);
  }
  return BusResult::Ok();
}

BusResult TaskSwitch::FindOutgoing(const TaskSwitchRequest& request,
                                   Task& outgoing) {
  outgoing.segment = cpu_.tr;
  const std::optional<TssWidth> width = WidthOf(cpu_.tr, /*busy=*/true);
  const std::optional<Gva> gva = DescriptorAddress(cpu_, cpu_.tr.selector);
  if (!width || !gva || cpu_.tr.limit < TssBytes(*width) - 1) {
    return InvalidTss(request, cpu_.tr.selector);
  }
  outgoing.width = *width;
  outgoing.descriptor = *gva;
  return BusResult::Ok();
}

BusResult TaskSwitch::ProbeAll(const TaskSwitchRequest& request,
                               const Task& outgoing, const Task& incoming) {
  const BusResult probes[] = {
      ProbeWriteTask(bus_, outgoing.base(), outgoing.width),
      bus_.Probe(outgoing.descriptor, kSystemWrite, sizeof(uint64_t)),
      bus_.Probe(incoming.descriptor, kSystemWrite, sizeof(uint64_t)),
      bus_.Probe(incoming.base(), kSystemRead, TssBytes(incoming.width)),
      IsNested(request.cause)
          ? bus_.Probe(incoming.base(), kSystemWrite, sizeof(uint16_t))
          : BusResult::Ok(),
  };
  for (const BusResult& probe : probes) {
    if (!probe.ok()) return probe;
  }
  return BusResult::Ok();
}

BusResult TaskSwitch::Exchange(const TaskSwitchRequest& request,
                               const Task& outgoing, const Task& incoming,
                               TaskImage& image) {
  BusResult result = WriteTask(insisting_, outgoing.base(), outgoing.width,
                               ImageOf(cpu_, request));
  if (result.ok() && IsNested(request.cause)) {
    result = WriteLink(insisting_, incoming.base(), outgoing.segment.selector);
  }
  if (result.ok()) {
    result = ReadTask(insisting_, incoming.base(), incoming.width, image);
  }
  // The busy bits come last: what is above can be done again.
  if (result.ok() && !IsNested(request.cause)) {
    result = ChangeDescriptorType(insisting_, outgoing.descriptor, 0, kBusy);
  }
  if (result.ok() && request.cause != TaskSwitchCause::kIret) {
    result = ChangeDescriptorType(insisting_, incoming.descriptor, kBusy, 0);
  }
  return result;
}

BusResult TaskSwitch::LoadTask(const TaskSwitchRequest& request,
                               const Task& incoming, const TaskImage& image) {
  const bool wide = incoming.width == TssWidth::k32Bit;
  cpu_.tr = incoming.segment;
  cpu_.tr.attributes |= kBusy;
  cpu_.cr0 |= cr0::kTs;
  cpu_.dr7 &= ~kDr7Local;
  cpu_.rip = image.rip;
  cpu_.rflags = (image.rflags & kLoadedFlags) | rflags::kFixed;
  if (IsNested(request.cause)) cpu_.rflags |= rflags::kNt;
  std::copy(image.gpr.begin(), image.gpr.end(), cpu_.gpr.begin());
  const uint16_t cs = image.selectors[static_cast<size_t>(SegmentName::kCs)];
  cpu_.cpl =
      static_cast<uint8_t>(cpu_.virtual_8086() ? 3 : cs & selector::kRpl);
  TaskSegments segments(cpu_, insisting_, request.source);
  segments.SetSelectors(image.selectors, image.ldt);

  if (wide && (cpu_.cr0 & cr0::kPg) != 0) {
    if (!load_cr3_(image.cr3)) {
      return BusResult::Inject(Exception::GeneralProtection());
    }
    cpu_.cr3 = image.cr3;
  }
  if (BusResult loaded = segments.Load(); !loaded.ok()) return loaded;
  if (request.error_code) {
    BusResult pushed = PushErrorCode(*request.error_code, incoming.width);
    if (!pushed.ok()) return pushed;
  }
  return CheckBranchTarget(cpu_, cpu_.rip);
}

BusResult TaskSwitch::PushErrorCode(uint32_t code, TssWidth width) {
  const Instruction none;
  Operands operands(cpu_, insisting_, none);
  Stack stack(cpu_, operands);
  return stack.Push(width == TssWidth::k32Bit ? 4 : 2, code);
}

}  // namespace hypervisor
