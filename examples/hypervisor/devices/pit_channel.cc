#include "devices/pit_channel.h"

#include <algorithm>

namespace hypervisor {
namespace {

// The access modes.
constexpr uint8_t kLowByte = 1;
constexpr uint8_t kHighByte = 2;
constexpr uint8_t kLowThenHigh = 3;

// The least count of the periodic modes.
constexpr uint32_t kLeastPeriod = 2;

constexpr uint32_t kBinaryModulus = 0x10000;
constexpr uint32_t kBcdModulus = 10000;

uint32_t FromBcd(uint32_t bcd) {
  return (bcd >> 12) * 1000 + (bcd >> 8 & 0xf) * 100 + (bcd >> 4 & 0xf) * 10 +
         (bcd & 0xf);
}

uint32_t ToBcd(uint32_t value) {
  return value / 1000 % 10 << 12 | value / 100 % 10 << 8 |
         value / 10 % 10 << 4 | value % 10;
}

}  // namespace

void PitChannel::WriteControl(uint8_t control, uint64_t now) {
  held_ = Count(now);
  counting_ = false;
  next_reload_.reset();
  stopped_.reset();
  access_ = control >> 4 & 3;
  // Bit 2 of the mode is a "don't care" for modes 2 and 3.
  mode_ = control >> 1 & 7;
  if (mode_ > 5) mode_ -= 4;
  bcd_ = (control & 1) != 0;
  write_high_ = false;
  read_high_ = false;
  latched_count_.reset();
  latched_status_.reset();
}

void PitChannel::WriteCount(uint8_t byte, uint64_t now) {
  Settle(now);
  if (access_ == kLowByte) {
    TakeCount(byte, now);
  } else if (access_ == kHighByte) {
    TakeCount(static_cast<uint32_t>(byte) << 8, now);
  } else if (!write_high_) {
    low_byte_ = byte;
    write_high_ = true;
    // In mode 0 half a count stops the counter, and OUT is low.
    if (mode_ == 0) {
      held_ = Count(now);
      counting_ = false;
    }
  } else {
    write_high_ = false;
    TakeCount(static_cast<uint32_t>(byte) << 8 | low_byte_, now);
  }
}

void PitChannel::TakeCount(uint32_t count, uint64_t now) {
  if (bcd_) count = FromBcd(count);
  if (count == 0) count = bcd_ ? kBcdModulus : kBinaryModulus;
  if (Periodic()) count = std::max(count, kLeastPeriod);
  if (TriggeredByGate()) {
    next_reload_ = count;
  } else if (Periodic() && counting_) {
    // From the period that runs now, whose start becomes start_.
    if (!stopped_.has_value()) start_ += Elapsed(now) / reload_ * reload_;
    next_reload_ = count;
  } else {
    Load(count, now);
  }
}

void PitChannel::Load(uint32_t count, uint64_t now) {
  reload_ = count;
  next_reload_.reset();
  counting_ = true;
  start_ = now + 1;
  stopped_.reset();
  if (gate_ == Signal::kLow && !TriggeredByGate()) stopped_ = 0;
}

void PitChannel::Settle(uint64_t now) {
  if (!Periodic() || !counting_ || stopped_.has_value()) return;
  if (!next_reload_.has_value() || Elapsed(now) < reload_) return;
  start_ += reload_;
  reload_ = *next_reload_;
  next_reload_.reset();
}

void PitChannel::SetGate(Signal gate, uint64_t now) {
  if (gate == gate_) return;
  Settle(now);
  gate_ = gate;
  if (gate == Signal::kLow) {
    if (counting_ && !TriggeredByGate()) stopped_ = Elapsed(now);
    return;
  }
  if (TriggeredByGate()) {
    if (counting_ || next_reload_.has_value()) {
      Load(next_reload_.value_or(reload_), now);
    }
  } else if (counting_ && Periodic()) {
    Load(next_reload_.value_or(reload_), now);
  } else if (stopped_.has_value()) {
    start_ = now - *stopped_;
    stopped_.reset();
  }
}

uint64_t PitChannel::Elapsed(uint64_t now) const {
  if (stopped_.has_value()) return *stopped_;
  return now > start_ ? now - start_ : 0;
}

Signal PitChannel::Output(uint64_t now) const {
  bool high = mode_ != 0;
  if (counting_) {
    const uint64_t elapsed = Elapsed(now);
    switch (mode_) {
      case 0:
      case 1:
        high = elapsed >= reload_;
        break;
      case 2:
        high = stopped_.has_value() || elapsed % reload_ != reload_ - 1;
        break;
      case 3:
        high = stopped_.has_value() || elapsed % reload_ < (reload_ + 1) / 2;
        break;
      default:  // a strobe of one clock
        high = elapsed != reload_;
        break;
    }
  }
  return high ? Signal::kHigh : Signal::kLow;
}

std::optional<uint64_t> PitChannel::NextRise(uint64_t now) const {
  if (!counting_ || stopped_.has_value()) return std::nullopt;
  uint64_t rise = start_ + reload_;
  if (Periodic()) {
    if (now >= rise && !next_reload_.has_value()) {
      rise = start_ + (Elapsed(now) / reload_ + 1) * reload_;
    }
  } else if (mode_ >= 4) {
    rise += 1;
  }
  return rise > now ? std::optional<uint64_t>(rise) : std::nullopt;
}

uint64_t PitChannel::Period() const {
  return Periodic() && counting_ ? reload_ : 0;
}

uint16_t PitChannel::Count(uint64_t now) const {
  if (!counting_) return held_;
  const uint32_t modulus = bcd_ ? kBcdModulus : kBinaryModulus;
  const uint64_t elapsed = Elapsed(now);
  uint32_t count = 0;
  if (mode_ == 2) {
    count = reload_ - static_cast<uint32_t>(elapsed % reload_);
  } else if (mode_ == 3) {
    // Counts by two, once through in each half of the period.
    const uint32_t high_half = (reload_ + 1) / 2;
    uint32_t in_half = static_cast<uint32_t>(elapsed % reload_);
    if (in_half >= high_half) in_half -= high_half;
    count = (reload_ & ~1u) - 2 * in_half;
  } else {
    // Past zero it counts on, round and round.
    count = reload_ + modulus - static_cast<uint32_t>(elapsed % modulus);
  }
  count %= modulus;
  return static_cast<uint16_t>(bcd_ ? ToBcd(count) : count);
}

void PitChannel::LatchCount(uint64_t now) {
  Settle(now);
  if (!latched_count_.has_value()) latched_count_ = Count(now);
}

void PitChannel::LatchStatus(uint64_t now) {
  Settle(now);
  if (latched_status_.has_value()) return;
  const bool null_count = !counting_ || next_reload_.has_value();
  const bool high = Output(now) == Signal::kHigh;
  latched_status_ =
      static_cast<uint8_t>((high ? 0x80 : 0) | (null_count ? 0x40 : 0) |
                           access_ << 4 | mode_ << 1 | (bcd_ ? 1 : 0));
}

uint8_t PitChannel::Read(uint64_t now) {
  Settle(now);
  if (latched_status_.has_value()) {
    const uint8_t status = *latched_status_;
    latched_status_.reset();
    return status;
  }
  const uint16_t count = latched_count_.value_or(Count(now));
  const bool high = access_ == kHighByte || read_high_;
  if (access_ == kLowThenHigh) read_high_ = !read_high_;
  if (!read_high_) latched_count_.reset();
  return static_cast<uint8_t>(high ? count >> 8 : count);
}

}  // namespace hypervisor
