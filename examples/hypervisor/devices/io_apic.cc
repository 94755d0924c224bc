#include "devices/io_apic.h"

namespace hypervisor {
namespace {

// The windows.
constexpr uint64_t kSelect = 0x00;
constexpr uint64_t kData = 0x10;
// Registers behind them (3.2).
constexpr uint8_t kId = 0x00;
constexpr uint8_t kVersion = 0x01;
constexpr uint8_t kArbitration = 0x02;
constexpr uint8_t kFirstEntry = 0x10;

// Version 0x11, and the number of the last line.
constexpr uint32_t kVersionValue = 0x00000011 | (IoApic::kLines - 1) << 16;
constexpr uint32_t kIdBits = 0x0f000000;

// A redirection entry (3.2.4).
constexpr unsigned kModeShift = 8;
constexpr uint64_t kMode = 7;
constexpr uint64_t kLogical = uint64_t{1} << 11;
constexpr uint64_t kRemoteIrr = uint64_t{1} << 14;
constexpr uint64_t kLevel = uint64_t{1} << 15;
constexpr uint64_t kMask = uint64_t{1} << 16;
constexpr unsigned kDestinationShift = 56;
// Delivery status and remote IRR are not to be written.
constexpr uint64_t kWritable = 0xff000000'0001afff;

}  // namespace

uint64_t IoApic::Read(uint64_t offset, unsigned /*bytes*/) {
  switch (offset) {
    case kSelect:
      return select_;
    case kData:
      return ReadRegister();
    default:
      return 0;
  }
}

void IoApic::Write(uint64_t offset, unsigned /*bytes*/, uint64_t value) {
  if (offset == kSelect) select_ = static_cast<uint8_t>(value);
  if (offset == kData) WriteRegister(static_cast<uint32_t>(value));
}

uint32_t IoApic::ReadRegister() const {
  const unsigned entry = (select_ - kFirstEntry) / 2u;
  if (select_ >= kFirstEntry && entry < kLines) {
    const unsigned shift = select_ % 2 == 0 ? 0 : 32;
    return static_cast<uint32_t>(entries_[entry] >> shift);
  }
  switch (select_) {
    case kId:
    case kArbitration:
      return id_;
    case kVersion:
      return kVersionValue;
    default:
      return 0;
  }
}

void IoApic::WriteRegister(uint32_t value) {
  const unsigned entry = (select_ - kFirstEntry) / 2u;
  if (select_ >= kFirstEntry && entry < kLines) {
    constexpr uint64_t kLow = 0xffffffff;
    const uint64_t old = entries_[entry];
    WriteEntry(entry, select_ % 2 == 0 ? (old & ~kLow) | value
                                       : (old & kLow) | uint64_t{value} << 32);
  } else if (select_ == kId) {
    id_ = value & kIdBits;
  }
}

void IoApic::WriteEntry(unsigned line, uint64_t value) {
  uint64_t& entry = entries_[line];
  entry = (value & kWritable) | (entry & kRemoteIrr);
  if ((entry & kLevel) == 0) entry &= ~kRemoteIrr;
  ServeLevel(line);
}

void IoApic::SetLine(unsigned line, Signal signal) {
  const bool rises = signal == Signal::kHigh && signals_[line] == Signal::kLow;
  signals_[line] = signal;
  const uint64_t entry = entries_[line];
  if ((entry & kLevel) != 0) {
    ServeLevel(line);
  } else if (rises && (entry & kMask) == 0) {
    Deliver(line);
  }
}

void IoApic::ServeLevel(unsigned line) {
  uint64_t& entry = entries_[line];
  if ((entry & (kLevel | kMask | kRemoteIrr)) != kLevel) return;
  if (signals_[line] == Signal::kLow) return;
  entry |= kRemoteIrr;
  Deliver(line);
}

void IoApic::Deliver(unsigned line) {
  const uint64_t entry = entries_[line];
  bus_.Send({.vector = static_cast<uint8_t>(entry),
             .mode = static_cast<DeliveryMode>(entry >> kModeShift & kMode),
             .destination = static_cast<uint8_t>(entry >> kDestinationShift),
             .logical = (entry & kLogical) != 0,
             .level = (entry & kLevel) != 0},
            nullptr);
}

void IoApic::EndOfInterrupt(uint8_t vector) {
  for (unsigned line = 0; line < kLines; ++line) {
    uint64_t& entry = entries_[line];
    if ((entry & kRemoteIrr) == 0 || static_cast<uint8_t>(entry) != vector) {
      continue;
    }
    entry &= ~kRemoteIrr;
    ServeLevel(line);
  }
}

}  // namespace hypervisor
