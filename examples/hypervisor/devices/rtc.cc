#include "devices/rtc.h"

#include <algorithm>
#include <chrono>

namespace hypervisor {
namespace {

constexpr uint8_t kSeconds = 0x00;
constexpr uint8_t kMinutes = 0x02;
constexpr uint8_t kHours = 0x04;
constexpr uint8_t kWeekday = 0x06;
constexpr uint8_t kDay = 0x07;
constexpr uint8_t kMonth = 0x08;
constexpr uint8_t kYear = 0x09;
constexpr uint8_t kRegisterA = 0x0a;
constexpr uint8_t kRegisterB = 0x0b;
constexpr uint8_t kRegisterC = 0x0c;
constexpr uint8_t kRegisterD = 0x0d;
constexpr uint8_t kEquipment = 0x14;
constexpr uint8_t kCentury = 0x32;

// Register A.
constexpr uint8_t kUpdateInProgress = 0x80;
constexpr uint8_t kDivider = 0x70;
constexpr uint8_t kDividerRuns = 0x20;  // from 32.768 kHz
constexpr uint8_t kRate1024Hz = 0x06;

// Register B.
constexpr uint8_t kSet = 0x80;
constexpr uint8_t kBinary = 0x04;
constexpr uint8_t k24Hours = 0x02;

// Register D.
constexpr uint8_t kValid = 0x80;

constexpr uint8_t kPm = 0x80;  // of the hour, in 12-hour mode

constexpr uint64_t kUpdateNanoseconds = 2'228'000;
constexpr int64_t kSecondsPerDay = 86'400;

constexpr uint64_t kKiB = 1024;
constexpr uint64_t kMiB = 1024 * kKiB;
constexpr uint64_t kGiB = 1024 * kMiB;

}  // namespace

Rtc::Rtc(Clock& clock, uint64_t start_time, uint64_t memory_bytes)
    : clock_(clock), epoch_(static_cast<int64_t>(start_time)) {
  memory_[kRegisterA] = kDividerRuns | kRate1024Hz;
  memory_[kRegisterB] = k24Hours;
  memory_[kEquipment] = 0x02;  // a floating-point unit, no diskettes
  DescribeMemory(memory_bytes);
}

void Rtc::DescribeMemory(uint64_t memory_bytes) {
  const auto put = [this](uint8_t index, uint64_t value) {
    memory_[index] = static_cast<uint8_t>(value);
    memory_[index + 1] = static_cast<uint8_t>(value >> 8);
  };
  const auto above = [memory_bytes](uint64_t start, uint64_t unit) {
    return memory_bytes > start ? (memory_bytes - start) / unit : 0;
  };
  constexpr uint64_t kMost = 0xffff;
  put(0x15, 640);  // KiB below 1 MiB
  put(0x17, std::min(above(kMiB, kKiB), kMost));
  put(0x30, std::min(above(kMiB, kKiB), kMost));
  put(0x34, std::min(above(16 * kMiB, 64 * kKiB), kMost));
  const uint64_t high = above(4 * kGiB, 64 * kKiB);
  put(0x5b, high);
  memory_[0x5d] = static_cast<uint8_t>(high >> 16);
}

uint32_t Rtc::In(uint16_t port, unsigned /*bytes*/) {
  // The index cannot be read back.
  return port == kFirstPort ? 0xff : Read(index_);
}

void Rtc::Out(uint16_t port, unsigned /*bytes*/, uint32_t value) {
  const uint8_t byte = static_cast<uint8_t>(value);
  if (port == kFirstPort) {
    index_ = byte & 0x7f;
  } else {
    Write(index_, byte);
  }
}

uint8_t Rtc::Read(uint8_t index) {
  Fields date = Date();
  if (const unsigned* field = FieldAt(date, index); field != nullptr) {
    return Encode(index, *field);
  }
  switch (index) {
    case kRegisterA:
      return memory_[kRegisterA] | (UpdateInProgress() ? kUpdateInProgress : 0);
    case kRegisterC:
      return 0;
    case kRegisterD:
      return kValid;
    default:
      return memory_[index];
  }
}

void Rtc::Write(uint8_t index, uint8_t value) {
  Fields date = Date();
  if (unsigned* field = FieldAt(date, index); field != nullptr) {
    *field = Decode(index, value);
    if (held_.has_value()) {
      held_ = date;
    } else {
      SetDate(date);
    }
    return;
  }
  switch (index) {
    case kRegisterA:
      memory_[kRegisterA] = value & static_cast<uint8_t>(~kUpdateInProgress);
      break;
    case kRegisterB:
      WriteRegisterB(value);
      break;
    case kRegisterC:
    case kRegisterD:
      break;  // read only
    default:
      memory_[index] = value;
      break;
  }
}

void Rtc::WriteRegisterB(uint8_t value) {
  if ((value & kSet) != 0 && !held_.has_value()) {
    held_ = Date();
  } else if ((value & kSet) == 0 && held_.has_value()) {
    SetDate(*held_);
    held_.reset();
  }
  memory_[kRegisterB] = value;
}

unsigned* Rtc::FieldAt(Fields& fields, uint8_t index) {
  switch (index) {
    case kSeconds:
      return &fields.second;
    case kMinutes:
      return &fields.minute;
    case kHours:
      return &fields.hour;
    case kWeekday:
      return &fields.weekday;
    case kDay:
      return &fields.day;
    case kMonth:
      return &fields.month;
    case kYear:
      return &fields.year;
    case kCentury:
      return &fields.century;
    default:
      return nullptr;
  }
}

uint64_t Rtc::SecondsSinceStart() {
  return clock_.Nanoseconds() / kNanosecondsPerSecond;
}

Rtc::Fields Rtc::Date() {
  if (held_.has_value()) return *held_;
  const int64_t now = epoch_ + static_cast<int64_t>(SecondsSinceStart());
  const std::chrono::sys_days day = std::chrono::floor<std::chrono::days>(
      std::chrono::sys_seconds(std::chrono::seconds(now)));
  const std::chrono::year_month_day date(day);
  const auto in_day = static_cast<unsigned>(
      now - int64_t{day.time_since_epoch().count()} * kSecondsPerDay);
  const int year = std::clamp(static_cast<int>(date.year()), 0, 9999);
  return {.second = in_day % 60,
          .minute = in_day / 60 % 60,
          .hour = in_day / 3600,
          .weekday = std::chrono::weekday(day).c_encoding() + 1,
          .day = static_cast<unsigned>(date.day()),
          .month = static_cast<unsigned>(date.month()),
          .year = static_cast<unsigned>(year) % 100,
          .century = static_cast<unsigned>(year) / 100};
}

// Fields that are out of range carry into the next: a guest may write anything.
void Rtc::SetDate(const Fields& fields) {
  const auto year = static_cast<int>(fields.century * 100 + fields.year);
  const unsigned month = std::clamp(fields.month, 1u, 12u);
  const std::chrono::sys_days first =
      std::chrono::year(year) / static_cast<int>(month) / 1;
  const int64_t days =
      first.time_since_epoch().count() + int64_t{fields.day} - 1;
  const int64_t seconds = days * kSecondsPerDay + int64_t{fields.hour} * 3600 +
                          int64_t{fields.minute} * 60 + fields.second;
  epoch_ = seconds - static_cast<int64_t>(SecondsSinceStart());
}

bool Rtc::UpdateInProgress() {
  if (held_.has_value() || (memory_[kRegisterA] & kDivider) != kDividerRuns) {
    return false;
  }
  return clock_.Nanoseconds() % kNanosecondsPerSecond >=
         kNanosecondsPerSecond - kUpdateNanoseconds;
}

uint8_t Rtc::Encode(uint8_t index, unsigned number) const {
  uint8_t pm = 0;
  if (index == kHours && (memory_[kRegisterB] & k24Hours) == 0) {
    if (number >= 12) pm = kPm;
    number = number % 12 == 0 ? 12 : number % 12;
  }
  if ((memory_[kRegisterB] & kBinary) == 0) {
    number = number / 10 % 10 << 4 | number % 10;
  }
  return static_cast<uint8_t>(number | pm);
}

unsigned Rtc::Decode(uint8_t index, uint8_t value) const {
  const bool twelve = index == kHours && (memory_[kRegisterB] & k24Hours) == 0;
  unsigned number = twelve ? value & static_cast<uint8_t>(~kPm) : value;
  if ((memory_[kRegisterB] & kBinary) == 0) {
    number = (number >> 4) * 10 + (number & 0xf);
  }
  if (twelve) number = number % 12 + ((value & kPm) != 0 ? 12 : 0);
  return number;
}

}  // namespace hypervisor
