#include "devices/local_apic.h"

#include <algorithm>
#include <utility>

namespace hypervisor {
namespace {

// Register offsets: APM vol. 2, table 16-2.
constexpr uint64_t kId = 0x20;
constexpr uint64_t kVersion = 0x30;
constexpr uint64_t kTaskPriority = 0x80;
constexpr uint64_t kArbitrationPriority = 0x90;
constexpr uint64_t kProcessorPriority = 0xa0;
constexpr uint64_t kEndOfInterrupt = 0xb0;
constexpr uint64_t kLogicalDestination = 0xd0;
constexpr uint64_t kDestinationFormat = 0xe0;
constexpr uint64_t kSpurious = 0xf0;
constexpr uint64_t kInService = 0x100;  // eight registers each
constexpr uint64_t kTriggerMode = 0x180;
constexpr uint64_t kRequest = 0x200;
constexpr uint64_t kErrorStatus = 0x280;
constexpr uint64_t kCommandLow = 0x300;
constexpr uint64_t kCommandHigh = 0x310;
constexpr uint64_t kLvtFirst = 0x320;
constexpr uint64_t kLvtLast = 0x370;
constexpr uint64_t kInitialCount = 0x380;
constexpr uint64_t kCurrentCount = 0x390;
constexpr uint64_t kDivide = 0x3e0;
constexpr uint64_t kRegisterStride = 0x10;

// Version 0x14, and the number of the last LVT entry.
constexpr uint32_t kVersionValue = 0x00050014;

constexpr uint32_t kSoftwareEnable = 1u << 8;  // SVR

// LVT.
constexpr uint32_t kMasked = 1u << 16;
constexpr uint32_t kPeriodic = 1u << 17;
constexpr uint32_t kDeliveryMode = 7u << 8;
constexpr uint32_t kExtInt = 7u << 8;

// What can be written of each entry, in the order of the registers.
constexpr uint32_t kLvtWritable[] = {0x000300ff, 0x000107ff, 0x000107ff,
                                     0x0001a7ff, 0x0001a7ff, 0x000100ff};

// ICR.
constexpr uint32_t kCommandWritable = 0x000ccfff;
constexpr uint32_t kLogicalMode = 1u << 11;
constexpr uint32_t kAssert = 1u << 14;
constexpr unsigned kShorthandShift = 18;
enum Shorthand : unsigned { kNone, kSelf, kAll, kAllButSelf };

// ESR.
constexpr uint32_t kSendIllegalVector = 1u << 5;
constexpr uint32_t kReceiveIllegalVector = 1u << 6;
constexpr uint32_t kIllegalRegister = 1u << 7;

// Vectors below belong to exceptions: the APIC does not deliver them.
constexpr uint8_t kFirstVector = 16;

constexpr uint8_t kBroadcast = 0xff;

// A periodic timer interrupts no more often than this, whatever the guest asks:
// the guest must get on between two interrupts.
constexpr uint64_t kShortestPeriod = 20'000;

}  // namespace

LocalApic::LocalApic(Clock& clock, uint8_t id, Role role)
    : clock_(clock),
      id_at_reset_(id),
      role_(role),
      waits_for_startup_(role == Role::kIsStarted) {
  Reset();
}

void LocalApic::SetGlobalEnable(GlobalEnable enable) {
  if (enable == global_enable_) return;
  global_enable_ = enable;
  Reset();
}

void LocalApic::Reset() {
  id_ = static_cast<uint32_t>(id_at_reset_) << 24;
  task_priority_ = 0;
  logical_destination_ = 0;
  destination_format_ = ~uint32_t{0};
  spurious_ = 0xff;
  errors_ = 0;
  error_status_ = 0;
  command_low_ = 0;
  command_high_ = 0;
  lvt_.fill(kMasked);
  request_ = VectorSet();
  in_service_ = VectorSet();
  level_ = VectorSet();
  nmi_ = false;
  timer_initial_ = 0;
  timer_divide_ = 0;
  timer_next_.reset();
}

bool LocalApic::SoftwareEnabled() const {
  return (spurious_ & kSoftwareEnable) != 0;
}

bool LocalApic::PassesExtInt() const {
  if (global_enable_ == GlobalEnable::kDisabled || !SoftwareEnabled()) {
    return true;
  }
  return (lvt_[kLint0] & (kMasked | kDeliveryMode)) == kExtInt;
}

// Only the first four bytes of each sixteen are a register.
uint64_t LocalApic::Read(uint64_t offset, unsigned /*bytes*/) {
  if (global_enable_ == GlobalEnable::kDisabled) return ~uint64_t{0};
  const uint64_t byte = offset % kRegisterStride;
  if (byte >= 4) return 0;
  Advance();
  return ReadRegister(offset - byte) >> (8 * byte);
}

void LocalApic::Write(uint64_t offset, unsigned /*bytes*/, uint64_t value) {
  if (global_enable_ == GlobalEnable::kDisabled) return;
  if (offset % kRegisterStride != 0) return;
  Advance();
  WriteRegister(offset, static_cast<uint32_t>(value));
}

uint32_t LocalApic::ReadRegister(uint64_t reg) {
  const auto index = static_cast<unsigned>(reg % 0x80 / kRegisterStride);
  if (reg >= kInService && reg < kTriggerMode) return in_service_.Word(index);
  if (reg >= kTriggerMode && reg < kRequest) return level_.Word(index);
  if (reg >= kRequest && reg < kErrorStatus) return request_.Word(index);
  if (reg >= kLvtFirst && reg <= kLvtLast) {
    return lvt_[(reg - kLvtFirst) / kRegisterStride];
  }
  switch (reg) {
    case kId:
      return id_;
    case kVersion:
      return kVersionValue;
    case kTaskPriority:
      return task_priority_;
    case kProcessorPriority:
      return ProcessorPriority();
    case kLogicalDestination:
      return logical_destination_;
    case kDestinationFormat:
      return destination_format_;
    case kSpurious:
      return spurious_;
    case kErrorStatus:
      return error_status_;
    case kCommandLow:
      return command_low_;
    case kCommandHigh:
      return command_high_;
    case kInitialCount:
      return timer_initial_;
    case kCurrentCount:
      return TimerCount();
    case kDivide:
      return timer_divide_;
    case kArbitrationPriority:
    case kEndOfInterrupt:
      return 0;
    default:
      Error(kIllegalRegister);
      return 0;
  }
}

void LocalApic::WriteRegister(uint64_t reg, uint32_t value) {
  if (reg >= kLvtFirst && reg <= kLvtLast) {
    WriteLvt(static_cast<Lvt>((reg - kLvtFirst) / kRegisterStride), value);
    return;
  }
  switch (reg) {
    case kId:
      id_ = value & 0xff000000;
      break;
    case kTaskPriority:
      task_priority_ = static_cast<uint8_t>(value);
      break;
    case kEndOfInterrupt:
      EndOfInterrupt();
      break;
    case kLogicalDestination:
      logical_destination_ = value & 0xff000000;
      break;
    case kDestinationFormat:
      destination_format_ = value | 0x0fffffff;
      break;
    case kSpurious:
      WriteSpurious(value);
      break;
    case kErrorStatus:
      // A write shows what has come together since the last one.
      error_status_ = errors_;
      errors_ = 0;
      break;
    case kCommandLow:
      command_low_ = value & kCommandWritable;
      SendCommand();
      break;
    case kCommandHigh:
      command_high_ = value & 0xff000000;
      break;
    case kInitialCount:
      StartTimer(value);
      break;
    case kDivide: {
      // What is left to count goes on at the new rate.
      const uint32_t left = TimerCount();
      timer_divide_ = value & 0xb;
      if (timer_next_.has_value()) {
        timer_next_ = clock_.Nanoseconds() + left * TimerDivisor();
      }
      break;
    }
    case kVersion:
    case kProcessorPriority:
    case kCurrentCount:
      break;  // read only
    default:
      if (reg < kInService || reg >= kErrorStatus) Error(kIllegalRegister);
      break;
  }
}

void LocalApic::WriteLvt(Lvt entry, uint32_t value) {
  lvt_[entry] = value & kLvtWritable[entry];
  if (!SoftwareEnabled()) lvt_[entry] |= kMasked;
}

void LocalApic::WriteSpurious(uint32_t value) {
  spurious_ = value & 0x3ff;
  if (SoftwareEnabled()) return;
  for (uint32_t& entry : lvt_) entry |= kMasked;
}

void LocalApic::EndOfInterrupt() {
  const std::optional<uint8_t> served = in_service_.Highest();
  if (!served.has_value()) return;
  in_service_.Remove(*served);
  if (level_.Contains(*served) && end_of_level_) end_of_level_(*served);
}

bool LocalApic::IsFor(const ApicMessage& message) const {
  return global_enable_ == GlobalEnable::kEnabled &&
         IsMe(message.destination, message.logical);
}

void LocalApic::Receive(const ApicMessage& message) {
  switch (message.mode) {
    case DeliveryMode::kFixed:
    case DeliveryMode::kLowestPriority:
      Accept(message.vector);
      if (message.level && request_.Contains(message.vector)) {
        level_.Add(message.vector);
      }
      return;
    case DeliveryMode::kNmi:
      nmi_ = true;
      break;
    case DeliveryMode::kInit: {
      const uint32_t id = id_;
      Reset();
      id_ = id;
      startup_.reset();
      init_ = true;
      waits_for_startup_ = role_ == Role::kIsStarted;
      break;
    }
    case DeliveryMode::kStartup:
      if (!waits_for_startup_) return;
      waits_for_startup_ = false;
      startup_ = message.vector;
      break;
    default:
      return;
  }
  attention_ = true;
}

void LocalApic::SendCommand() {
  const auto mode = static_cast<DeliveryMode>((command_low_ >> 8) & 7);
  const auto vector = static_cast<uint8_t>(command_low_);
  const bool has_vector =
      mode == DeliveryMode::kFixed || mode == DeliveryMode::kLowestPriority;
  if (has_vector && vector < kFirstVector) {
    Error(kSendIllegalVector);
    return;
  }
  // The end of INIT, of which nothing comes.
  if (mode == DeliveryMode::kInit && (command_low_ & kAssert) == 0) return;
  const unsigned shorthand = (command_low_ >> kShorthandShift) & 3;
  ApicMessage message = {
      .vector = vector,
      .mode = mode,
      .destination = static_cast<uint8_t>(command_high_ >> 24),
      .logical = (command_low_ & kLogicalMode) != 0,
      .level = false};
  if (shorthand == kAll || shorthand == kAllButSelf) {
    message.destination = kBroadcast;
    message.logical = false;
  }
  if (shorthand == kSelf) {
    Receive(message);
  } else if (bus_ != nullptr) {
    bus_->Send(message, shorthand == kAllButSelf ? this : nullptr);
  } else if (shorthand != kAllButSelf && IsFor(message)) {
    Receive(message);
  }
}

bool LocalApic::IsMe(uint32_t destination, bool logical) const {
  if (destination == kBroadcast) return true;
  if (!logical) return destination == id_ >> 24;
  const uint32_t mine = logical_destination_ >> 24;
  if (destination_format_ >> 28 == 0xf) return (destination & mine) != 0;
  // The cluster model: four bits name the cluster, four the CPUs in it.
  return destination >> 4 == mine >> 4 && (destination & mine & 0xf) != 0;
}

void LocalApic::Accept(uint8_t vector) {
  if (!SoftwareEnabled()) return;
  if (vector < kFirstVector) {
    Error(kReceiveIllegalVector);
  } else {
    request_.Add(vector);
    level_.Remove(vector);
    attention_ = true;
  }
}

void LocalApic::Error(uint32_t bit) {
  const bool is_new = (errors_ & bit) == 0;
  errors_ |= bit;
  // Once for each kind: an error vector that is illegal itself must end.
  if (is_new && (lvt_[kError] & kMasked) == 0) {
    Accept(static_cast<uint8_t>(lvt_[kError]));
  }
}

uint8_t LocalApic::ProcessorPriority() const {
  const uint8_t served = in_service_.Highest().value_or(0);
  return task_priority_ >> 4 >= served >> 4
             ? task_priority_
             : static_cast<uint8_t>(served & 0xf0);
}

bool LocalApic::Pending() {
  if (global_enable_ == GlobalEnable::kDisabled || !SoftwareEnabled()) {
    return false;
  }
  const std::optional<uint8_t> request = request_.Highest();
  return request.has_value() && *request >> 4 > ProcessorPriority() >> 4;
}

uint8_t LocalApic::Acknowledge() {
  if (!Pending()) return static_cast<uint8_t>(spurious_);
  const uint8_t vector = *request_.Highest();
  request_.Remove(vector);
  in_service_.Add(vector);
  return vector;
}

bool LocalApic::TakeNmi() { return std::exchange(nmi_, false); }

bool LocalApic::TakeInit() { return std::exchange(init_, false); }

std::optional<uint8_t> LocalApic::TakeStartup() {
  return std::exchange(startup_, std::nullopt);
}

bool LocalApic::TakeAttention() { return std::exchange(attention_, false); }

uint8_t LocalApic::TaskPriorityClass() const { return task_priority_ >> 4; }

void LocalApic::SetTaskPriorityClass(uint8_t priority_class) {
  task_priority_ = static_cast<uint8_t>(priority_class << 4);
}

uint64_t LocalApic::TimerDivisor() const {
  // Bits 3, 1 and 0: 0 is 2, 1 is 4, ... 6 is 128, and 7 is 1.
  const unsigned code = (timer_divide_ & 3) | ((timer_divide_ & 8) >> 1);
  return code == 7 ? 1 : uint64_t{2} << code;
}

bool LocalApic::TimerIsPeriodic() const {
  return (lvt_[kTimer] & kPeriodic) != 0;
}

uint32_t LocalApic::TimerCount() {
  if (!timer_next_.has_value()) return 0;
  const uint64_t now = clock_.Nanoseconds();
  if (now >= *timer_next_) return 0;
  const uint64_t divisor = TimerDivisor();
  return static_cast<uint32_t>((*timer_next_ - now + divisor - 1) / divisor);
}

void LocalApic::StartTimer(uint32_t count) {
  timer_initial_ = count;
  timer_next_.reset();
  if (count == 0) return;
  timer_last_ = clock_.Nanoseconds();
  timer_next_ = timer_last_ + count * TimerDivisor();
}

std::optional<uint64_t> LocalApic::NextEvent() const {
  if (!timer_next_.has_value() || (lvt_[kTimer] & kMasked) != 0) {
    return std::nullopt;
  }
  if (!TimerIsPeriodic()) return timer_next_;
  return std::max(*timer_next_, timer_last_ + kShortestPeriod);
}

void LocalApic::Advance() {
  if (!timer_next_.has_value()) return;
  const uint64_t now = clock_.Nanoseconds();
  const bool masked = (lvt_[kTimer] & kMasked) != 0;
  const uint64_t due = masked ? *timer_next_ : *NextEvent();
  if (now < due) return;
  if (!masked) Accept(static_cast<uint8_t>(lvt_[kTimer]));
  timer_last_ = now;
  if (TimerIsPeriodic()) {
    const uint64_t period = timer_initial_ * TimerDivisor();
    *timer_next_ += ((now - *timer_next_) / period + 1) * period;
  } else {
    timer_next_.reset();
  }
}

}  // namespace hypervisor
