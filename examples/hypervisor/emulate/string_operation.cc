#include "emulate/string_operation.h"

#include "emulate/alu.h"
#include "emulate/insisting_bus.h"
#include "emulate/linear.h"

namespace hypervisor {
StringOperation::StringOperation(CpuState& cpu, GuestBus& bus,
                                 const Instruction& instruction)
    : cpu_(cpu),
      bus_(bus),
      instruction_(instruction),
      operands_(cpu, bus, instruction),
      bytes_(instruction.operand_bytes),
      address_bytes_(instruction.address_bytes) {}

StringOperation::Outcome StringOperation::Run() {
  if (!Repeats()) return {Element(), Progress::kDone};
  const unsigned most = MaxElements();
  for (unsigned i = 0; i < most; ++i) {
    const uint64_t count = ReadGpr(cpu_, kRcx, address_bytes_);
    if (count == 0) return {};
    if (BusResult result = Element(); !result.ok()) return {result, {}};
    WriteGpr(cpu_, kRcx, address_bytes_, count - 1);
    if (count == 1 || EndsByFlag()) return {};
  }
  return {BusResult::Ok(), Progress::kMore};
}

BusResult StringOperation::Element() {
  switch (instruction_.operation) {
    case Operation::kMovs:
      return Move();
    case Operation::kCmps:
      return CompareStrings();
    case Operation::kStos:
      return StoreString();
    case Operation::kLods:
      return LoadString();
    case Operation::kScas:
      return Scan();
    case Operation::kIns:
      return Input();
    default:
      return Output();
  }
}

bool StringOperation::Repeats() const {
  return instruction_.prefixes.repeat != Repeat::kNone;
}

bool StringOperation::EndsByFlag() const {
  if (instruction_.operation != Operation::kCmps &&
      instruction_.operation != Operation::kScas) {
    return false;
  }
  const bool equal = (cpu_.rflags & rflags::kZf) != 0;
  return equal != (instruction_.prefixes.repeat == Repeat::kWhileEqual);
}

unsigned StringOperation::MaxElements() const {
  if ((cpu_.rflags & rflags::kTf) != 0) return 1;
  const bool port = instruction_.operation == Operation::kIns ||
                    instruction_.operation == Operation::kOuts;
  return port ? kMaxPortElements : kMaxMemoryElements;
}

// The source is in DS, or where a prefix says; the destination in ES always.
BusResult StringOperation::ReadSource(uint64_t& value) {
  const SegmentName segment =
      SegmentOverride(instruction_).value_or(SegmentName::kDs);
  return operands_.ReadAt(segment, ReadGpr(cpu_, kRsi, address_bytes_), bytes_,
                          value);
}

BusResult StringOperation::ReadDestination(uint64_t& value) {
  return operands_.ReadAt(SegmentName::kEs, ReadGpr(cpu_, kRdi, address_bytes_),
                          bytes_, value);
}

BusResult StringOperation::WriteDestination(uint64_t value) {
  return operands_.WriteAt(SegmentName::kEs,
                           ReadGpr(cpu_, kRdi, address_bytes_), bytes_, value);
}

void StringOperation::Step(Gpr index) {
  const uint64_t at = ReadGpr(cpu_, index, address_bytes_);
  const bool down = (cpu_.rflags & rflags::kDf) != 0;
  WriteGpr(cpu_, index, address_bytes_, down ? at - bytes_ : at + bytes_);
}

void StringOperation::Compare(uint64_t a, uint64_t b) {
  cpu_.rflags = Arithmetic(Operation::kCmp, a, b, bytes_, cpu_.rflags).flags;
}

BusResult StringOperation::Move() {
  uint64_t value = 0;
  if (BusResult read = ReadSource(value); !read.ok()) return read;
  if (BusResult written = WriteDestination(value); !written.ok()) {
    return written;
  }
  Step(kRsi);
  Step(kRdi);
  return BusResult::Ok();
}

BusResult StringOperation::CompareStrings() {
  uint64_t source = 0;
  uint64_t destination = 0;
  if (BusResult read = ReadSource(source); !read.ok()) return read;
  if (BusResult read = ReadDestination(destination); !read.ok()) return read;
  Compare(source, destination);
  Step(kRsi);
  Step(kRdi);
  return BusResult::Ok();
}

BusResult StringOperation::StoreString() {
  BusResult written = WriteDestination(ReadGpr(cpu_, kRax, bytes_));
  if (written.ok()) Step(kRdi);
  return written;
}

BusResult StringOperation::LoadString() {
  uint64_t value = 0;
  if (BusResult read = ReadSource(value); !read.ok()) return read;
  WriteGpr(cpu_, kRax, bytes_, value);
  Step(kRsi);
  return BusResult::Ok();
}

BusResult StringOperation::Scan() {
  uint64_t value = 0;
  if (BusResult read = ReadDestination(value); !read.ok()) return read;
  Compare(ReadGpr(cpu_, kRax, bytes_), value);
  Step(kRdi);
  return BusResult::Ok();
}

BusResult StringOperation::Input() {
  BusResult probed = operands_.ProbeWriteAt(
      SegmentName::kEs, ReadGpr(cpu_, kRdi, address_bytes_), bytes_);
  if (!probed.ok()) return probed;
  const uint16_t port = static_cast<uint16_t>(ReadGpr(cpu_, kRdx, 2));
  const uint32_t value = bus_.In(port, bytes_);
  // What the port has given must not be lost.
  InsistingBus insisting(bus_);
  BusResult written =
      Operands(cpu_, insisting, instruction_)
          .WriteAt(SegmentName::kEs, ReadGpr(cpu_, kRdi, address_bytes_),
                   bytes_, value);
  if (written.ok()) Step(kRdi);
  return written;
}

BusResult StringOperation::Output() {
  uint64_t value = 0;
  if (BusResult read = ReadSource(value); !read.ok()) return read;
  const uint16_t port = static_cast<uint16_t>(ReadGpr(cpu_, kRdx, 2));
  bus_.Out(port, bytes_, static_cast<uint32_t>(value));
  Step(kRsi);
  return BusResult::Ok();
}

}  // namespace hypervisor
