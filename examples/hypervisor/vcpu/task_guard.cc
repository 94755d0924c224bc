#include "vcpu/task_guard.h"

#include <array>
#include <cstddef>
#include <span>

#include "boot/cpu.h"
#include "emulate/descriptor.h"
#include "emulate/linear.h"
#include "emulate/operands.h"
#include "emulate/prefix_scan.h"
#include "emulate/word_bytes.h"

namespace hypervisor {
namespace {

using shadowmmu::Gva;

// Where the TSS is moved to: the first of these that is not mapped, or no
// memory. What a CPU reads of a TSS, its port bitmap included, is not longer.
constexpr uint64_t kPlaces[] = {0xffffc000, 0xffbfc000, 0xfeffc000, 0xbfffc000};
constexpr uint64_t kPlaceBytes = 0x3000;

constexpr uint16_t kTaskGate = 5;
constexpr uint16_t kSystemType = 0x1f;  // S and type of `attributes`

// "TCGTCGTCGTCG", where hypervisors say who they are.
bool IsTcg() {
  constexpr uint32_t kTcgt = 0x54474354;
  return ReadCpuid(0x40000000).ebx == kTcgt;
}

std::optional<uint64_t> ReadWord(Bus& bus, Gva gva, size_t bytes) {
  WordBytes word = {};
  const BusResult read =
      bus.Read(gva, kSystemRead, std::span(word).first(bytes));
  if (!read.ok()) return std::nullopt;
  return FromBytes(word);
}

// The TSS that `value` selects, by itself or through a task gate.
std::optional<uint16_t> TaskOf(const CpuState& state, Bus& bus,
                               uint16_t value) {
  const std::optional<Gva> gva = DescriptorAddress(state, value);
  if (!gva || selector::IsNull(value)) return std::nullopt;
  const std::optional<uint64_t> descriptor = ReadWord(bus, *gva, 8);
  if (!descriptor) return std::nullopt;
  const uint16_t type = SegmentFrom(value, *descriptor).attributes;
  switch (type & kSystemType) {
    case kTaskGate:
      return static_cast<uint16_t>(*descriptor >> 16);
    case static_cast<uint16_t>(SystemType::kTss16Available):
    case static_cast<uint16_t>(SystemType::kTss32Available):
      return value;
    default:
      return std::nullopt;
  }
}

// The selector of a far JMP or CALL.
std::optional<uint16_t> FarSelector(const CpuState& state, Bus& bus,
                                    const Instruction& instruction) {
  const unsigned offset_bytes =
      OperandBytes(instruction.mode, instruction.prefixes);
  const Operand& operand = instruction.operands[0];
  if (!operand.is_memory()) {
    // It stands at the instruction's end.
    const size_t at = instruction.length - 2u;
    return static_cast<uint16_t>(instruction.bytes[at] |
                                 instruction.bytes[at + 1] << 8);
  }
  CpuState copy = state;
  Operands operands(copy, bus, instruction);
  uint64_t value = 0;
  const BusResult read =
      operands.ReadAt(operand.memory.segment,
                      operands.Offset(operand) + offset_bytes, 2, value);
  if (!read.ok()) return std::nullopt;
  return static_cast<uint16_t>(value);
}

// What the first byte behind the prefixes says of an instruction that may
// switch tasks.
enum class Cause : uint8_t { kNone, kJump, kCall, kIret };

Cause CauseOf(const Instruction& instruction) {
  size_t at = 0;
  const auto is_prefix = [](uint8_t byte) {
    return byte == 0x66 || byte == 0x67 || byte == 0x26 || byte == 0x2e ||
           byte == 0x36 || byte == 0x3e || byte == 0x64 || byte == 0x65 ||
           byte >= 0xf0;
  };
  const auto& bytes = instruction.bytes;
  while (at + 2 < bytes.size() && bytes[at] != 0xff && is_prefix(bytes[at])) {
    ++at;
  }
  const unsigned digit = bytes[at + 1] >> 3 & 7;
  switch (bytes[at]) {
    case 0xcf:
      return Cause::kIret;
    case 0x9a:
      return Cause::kCall;
    case 0xea:
      return Cause::kJump;
    case 0xff:
      return digit == 3   ? Cause::kCall
             : digit == 5 ? Cause::kJump
                          : Cause::kNone;
    default:
      return Cause::kNone;
  }
}

}  // namespace

TaskGuard::TaskGuard() : active_(IsTcg()) {}

void TaskGuard::BeforeEntry(const Paging& paging, Bus& bus, Vmcb& vmcb) {
  moved_ = false;
  const bool may_switch = (paging.cr0() & cr0::kPe) != 0 &&
                          (paging.efer() & shadowmmu::efer::kLma) == 0 &&
                          !selector::IsNull(vmcb.tr.selector);
  if (!active_ || !may_switch) {
    vmcb.intercepts_1 &= ~intercept_1::kWriteTr;
    return;
  }
  vmcb.intercepts_1 |= intercept_1::kWriteTr;
  if (trusted_) {
    trusted_ = false;
    return;
  }
  for (const uint64_t place : kPlaces) {
    // Memory would answer to a write of what it holds; what is not mapped, and
    // what is no memory, makes the guest exit.
    if (bus.IsMemory(Gva(place))) continue;
    own_base_ = vmcb.tr.base;
    place_ = place;
    vmcb.tr.base = place;
    moved_ = true;
    return;
  }
}

void TaskGuard::AfterExit(Vmcb& vmcb) {
  if (moved_ && vmcb.tr.base == place_) vmcb.tr.base = own_base_;
}

bool TaskGuard::IsLookAtTss(uint64_t gva) const {
  return moved_ && gva - place_ < kPlaceBytes;
}

std::optional<TaskSwitchRequest> TaskGuard::SwitchAt(const CpuState& state,
                                                     const Vmcb& vmcb, Bus& bus,
                                                     Decoder& decoder) {
  const Fetched fetched = decoder.Fetch(state, bus);
  std::optional<TaskSwitchRequest> request;
  if ((vmcb.exit_int_info & event::kValid) != 0) {
    request = SwitchByEvent(state, vmcb, bus, fetched.instruction.length);
  } else if (fetched.result.ok()) {
    request = SwitchByInstruction(state, bus, fetched.instruction);
  }
  if (!request) trusted_ = true;
  return request;
}

std::optional<TaskSwitchRequest> TaskGuard::SwitchByEvent(const CpuState& state,
                                                          const Vmcb& vmcb,
                                                          Bus& bus,
                                                          unsigned length) {
  const uint64_t info = vmcb.exit_int_info;
  const uint64_t vector = info & event::kVector;
  const uint64_t type = info >> event::kTypeShift & event::kTypeMask;
  const auto gate =
      ReadWord(bus, Gva((state.idtr.base + 8 * vector) & 0xffffffff), 8);
  if (!gate || (*gate >> 40 & kSystemType) != kTaskGate) return std::nullopt;
  TaskSwitchRequest request;
  request.cause = TaskSwitchCause::kEvent;
  request.selector = static_cast<uint16_t>(*gate >> 16);
  // INT3 and INTO, too, are left behind.
  constexpr uint64_t kBreakpoint = 3;
  constexpr uint64_t kOverflow = 4;
  const bool by_instruction = type == event::kSoftware ||
                              (type == event::kException &&
                               (vector == kBreakpoint || vector == kOverflow));
  request.saved_rip = state.rip + (by_instruction ? length : 0);
  request.saved_rf = type == event::kException && !by_instruction;
  if ((info & event::kErrorCodeValid) != 0) {
    request.error_code = static_cast<uint32_t>(info >> event::kErrorCodeShift);
  }
  if (type == event::kInterrupt) request.source = EventSource::kExternal;
  return request;
}

std::optional<TaskSwitchRequest> TaskGuard::SwitchByInstruction(
    const CpuState& state, Bus& bus, const Instruction& instruction) {
  TaskSwitchRequest request;
  request.saved_rip = state.rip + instruction.length;
  std::optional<uint64_t> selector;
  switch (CauseOf(instruction)) {
    case Cause::kIret:
      if ((state.rflags & rflags::kNt) == 0) return std::nullopt;
      request.cause = TaskSwitchCause::kIret;
      selector = ReadWord(bus, Gva(state.tr.base & 0xffffffff), 2);
      break;
    case Cause::kCall:
    case Cause::kJump: {
      request.cause = CauseOf(instruction) == Cause::kCall
                          ? TaskSwitchCause::kCall
                          : TaskSwitchCause::kJump;
      const auto named = FarSelector(state, bus, instruction);
      if (named) selector = TaskOf(state, bus, *named);
      break;
    }
    case Cause::kNone:
      break;
  }
  if (!selector) return std::nullopt;
  request.selector = static_cast<uint16_t>(*selector);
  return request;
}

}  // namespace hypervisor
