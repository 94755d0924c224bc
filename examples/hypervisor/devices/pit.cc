#include "devices/pit.h"

#include <algorithm>

namespace hypervisor {
namespace {

constexpr uint16_t kFirstPort = 0x40;
constexpr uint16_t kControlPort = 0x43;
constexpr uint16_t kControlPortB = 0x61;

// Port 0x61.
constexpr uint8_t kGate2 = 0x01;
constexpr uint8_t kWritable = 0x0f;
constexpr uint8_t kRefreshToggle = 0x10;
constexpr uint8_t kOutput2 = 0x20;
constexpr uint64_t kRefreshNanoseconds = 15'085;

// Bits of the read-back command that forbid.
constexpr uint8_t kNoCount = 0x20;
constexpr uint8_t kNoStatus = 0x10;

// Clocks up to a time, rounded down; and the first time at which so many clocks
// have gone by. In two parts: the product would not fit 64 bits.
constexpr uint64_t ToTicks(uint64_t nanoseconds) {
  return nanoseconds / kNanosecondsPerSecond * Pit::kHertz +
         nanoseconds % kNanosecondsPerSecond * Pit::kHertz /
             kNanosecondsPerSecond;
}
constexpr uint64_t ToNanoseconds(uint64_t ticks) {
  return ticks / Pit::kHertz * kNanosecondsPerSecond +
         (ticks % Pit::kHertz * kNanosecondsPerSecond + Pit::kHertz - 1) /
             Pit::kHertz;
}
static_assert(ToTicks(ToNanoseconds(12'345'678'901)) == 12'345'678'901);
static_assert(ToTicks(ToNanoseconds(12'345'678'901) - 1) == 12'345'678'900);

}  // namespace

Pit::Pit(Clock& clock, IrqLine& irq0) : clock_(clock), irq0_(irq0) {
  seen_ = Ticks();
  irq0_.Set(Signal::kHigh);
  channels_[2].SetGate(Signal::kLow, seen_);
}

void Pit::AttachTo(IoBus& bus) {
  bus.Attach(kFirstPort, 4, this);
  bus.Attach(kControlPortB, 1, this);
}

uint64_t Pit::Ticks() { return ToTicks(clock_.Nanoseconds()); }

uint32_t Pit::In(uint16_t port, unsigned /*bytes*/) {
  if (port == kControlPortB) return ReadControlPortB();
  if (port == kControlPort) return 0xff;  // write only
  Advance();
  return channels_[port - kFirstPort].Read(Ticks());
}

void Pit::Out(uint16_t port, unsigned /*bytes*/, uint32_t value) {
  const uint8_t byte = static_cast<uint8_t>(value);
  Advance();
  if (port == kControlPortB) {
    WriteControlPortB(byte);
  } else if (port == kControlPort) {
    WriteControl(byte);
  } else {
    channels_[port - kFirstPort].WriteCount(byte, seen_);
    // A mode 0 count that is written anew takes OUT down.
    if (port == kFirstPort && channels_[0].Period() == 0) {
      irq0_.Set(channels_[0].Output(seen_));
    }
  }
}

void Pit::WriteControl(uint8_t value) {
  const unsigned select = value >> 6;
  if (select == 3) {  // read-back
    for (unsigned i = 0; i < channels_.size(); ++i) {
      if ((value & (2u << i)) == 0) continue;
      if ((value & kNoCount) == 0) channels_[i].LatchCount(seen_);
      if ((value & kNoStatus) == 0) channels_[i].LatchStatus(seen_);
    }
    return;
  }
  if ((value & 0x30) == 0) {
    channels_[select].LatchCount(seen_);
    return;
  }
  channels_[select].WriteControl(value & 0x3f, seen_);
  if (select == 0) {
    owed_ = false;
    irq0_.Set(channels_[0].Output(seen_));
  }
}

void Pit::WriteControlPortB(uint8_t value) {
  control_port_b_ = value & kWritable;
  channels_[2].SetGate((value & kGate2) != 0 ? Signal::kHigh : Signal::kLow,
                       seen_);
}

uint8_t Pit::ReadControlPortB() {
  uint8_t value = control_port_b_;
  const uint64_t now = clock_.Nanoseconds();
  if ((now / kRefreshNanoseconds & 1) != 0) value |= kRefreshToggle;
  channels_[2].Settle(ToTicks(now));
  if (channels_[2].Output(ToTicks(now)) == Signal::kHigh) value |= kOutput2;
  return value;
}

std::optional<uint64_t> Pit::NextEvent() {
  if (owed_) return last_edge_ + kShortestPeriod;
  const std::optional<uint64_t> rise = channels_[0].NextRise(seen_);
  if (!rise.has_value()) return std::nullopt;
  const uint64_t due = ToNanoseconds(*rise);
  if (channels_[0].Period() == 0) return due;
  return std::max(due, last_edge_ + kShortestPeriod);
}

void Pit::Advance() {
  const uint64_t now = clock_.Nanoseconds();
  const uint64_t ticks = ToTicks(now);
  const std::optional<uint64_t> rise = channels_[0].NextRise(seen_);
  if (rise.has_value() && *rise <= ticks) owed_ = true;
  channels_[0].Settle(ticks);
  seen_ = ticks;
  const bool too_soon =
      channels_[0].Period() != 0 && now < last_edge_ + kShortestPeriod;
  if (!owed_ || too_soon) return;
  irq0_.Set(Signal::kLow);
  irq0_.Set(Signal::kHigh);
  owed_ = false;
  last_edge_ = now;
}

}  // namespace hypervisor
