#include "devices/pic.h"

namespace hypervisor {
namespace {

// ICW1 and OCW3 share A0 = 0 with OCW2: these bits tell which it is.
constexpr uint8_t kIsIcw1 = 0x10;
constexpr uint8_t kIsOcw3 = 0x08;

constexpr uint8_t kIcw1Single = 0x02;
constexpr uint8_t kIcw1NeedsIcw4 = 0x01;

constexpr uint8_t kIcw4AutoEoi = 0x02;
constexpr uint8_t kIcw4SpecialFullyNested = 0x10;

constexpr uint8_t kOcw3Poll = 0x04;

constexpr unsigned kCascadeLine = 2;
constexpr unsigned kSpuriousLine = 7;
constexpr unsigned kNone = 8;

constexpr uint8_t Bit(unsigned line) {
  return static_cast<uint8_t>(1u << line);
}

}  // namespace

Pic::Pic(Role role, uint8_t elcr_mask) : role_(role), elcr_mask_(elcr_mask) {}

uint8_t Pic::Read(unsigned a0) {
  if (poll_) {
    // A poll is an acknowledge cycle without the vector.
    poll_ = false;
    const std::optional<unsigned> line = PendingLine();
    if (!line.has_value()) return 0;
    Take(*line);
    return static_cast<uint8_t>(0x80 | *line);
  }
  if (a0 != 0) return mask_;
  return reads_in_service_ ? in_service_ : Requests();
}

void Pic::Write(unsigned a0, uint8_t value) {
  if (a0 == 0) {
    if ((value & kIsIcw1) != 0) {
      WriteIcw1(value);
    } else if ((value & kIsOcw3) != 0) {
      WriteOcw3(value);
    } else {
      WriteOcw2(value);
    }
  } else if (next_icw_ != 0) {
    WriteIcw(value);
  } else {
    mask_ = value;  // OCW1
  }
}

void Pic::set_edge_level_control(uint8_t value) { elcr_ = value & elcr_mask_; }

void Pic::SetInput(unsigned line, Signal signal) {
  if (signal == Signal::kHigh) {
    if ((inputs_ & Bit(line)) == 0) edges_ |= Bit(line);
    inputs_ |= Bit(line);
  } else {
    inputs_ &= static_cast<uint8_t>(~Bit(line));
    if (line == kCascadeLine && role_ == Role::kMaster) {
      edges_ &= static_cast<uint8_t>(~Bit(line));
    }
  }
}

bool Pic::Pending() { return PendingLine().has_value(); }

uint8_t Pic::Acknowledge() {
  const unsigned line = PendingLine().value_or(kNone);
  // Spurious: the vector of IR7, and nothing is in service.
  if (line == kNone) return static_cast<uint8_t>(base_ | kSpuriousLine);
  Take(line);
  return static_cast<uint8_t>(base_ | line);
}

std::optional<unsigned> Pic::PendingLine() const {
  if (!initialised_) return std::nullopt;
  const unsigned request =
      HighestPriority(Requests() & static_cast<uint8_t>(~mask_));
  if (request == kNone) return std::nullopt;
  uint8_t blocking = in_service_;
  if (special_mask_) blocking &= static_cast<uint8_t>(~mask_);
  // The slave may interrupt its own service with a higher line of its own.
  if (special_fully_nested_ && role_ == Role::kMaster) {
    blocking &= static_cast<uint8_t>(~Bit(kCascadeLine));
  }
  if (request >= HighestPriority(blocking)) return std::nullopt;
  return LineOfPriority(request);
}

void Pic::WriteIcw1(uint8_t value) {
  // "The edge sense circuit is reset": a line that is high must fall first.
  edges_ = 0;
  mask_ = 0;
  in_service_ = 0;
  lowest_ = 7;
  auto_eoi_ = false;
  special_fully_nested_ = false;
  special_mask_ = false;
  rotate_on_auto_eoi_ = false;
  reads_in_service_ = false;
  poll_ = false;
  initialised_ = false;
  wants_icw3_ = (value & kIcw1Single) == 0;
  wants_icw4_ = (value & kIcw1NeedsIcw4) != 0;
  next_icw_ = 2;
}

void Pic::WriteIcw(uint8_t value) {
  if (next_icw_ == 2) {
    base_ = value & 0xf8;
    next_icw_ = wants_icw3_ ? 3 : 4;
  } else if (next_icw_ == 3) {
    next_icw_ = 4;  // the cascade is wired: there is nothing to choose
  } else {
    auto_eoi_ = (value & kIcw4AutoEoi) != 0;
    special_fully_nested_ = (value & kIcw4SpecialFullyNested) != 0;
    next_icw_ = 0;
  }
  if (next_icw_ == 4 && !wants_icw4_) next_icw_ = 0;
  initialised_ = next_icw_ == 0;
}

void Pic::WriteOcw2(uint8_t value) {
  const unsigned named = value & 7;
  uint8_t served = in_service_;
  if (special_mask_) served &= static_cast<uint8_t>(~mask_);
  const unsigned highest = HighestPriority(served);
  switch (value >> 5) {
    case 0:  // rotate in automatic EOI mode: clear
      rotate_on_auto_eoi_ = false;
      break;
    case 4:  // ... set
      rotate_on_auto_eoi_ = true;
      break;
    case 1:  // non-specific EOI
    case 5:  // and rotate
      if (highest != kNone) {
        const unsigned line = LineOfPriority(highest);
        EndOfInterrupt(line);
        if (value >> 5 == 5) lowest_ = static_cast<uint8_t>(line);
      }
      break;
    case 3:  // specific EOI
      EndOfInterrupt(named);
      break;
    case 7:  // and rotate
      EndOfInterrupt(named);
      lowest_ = static_cast<uint8_t>(named);
      break;
    case 6:  // set priority
      lowest_ = static_cast<uint8_t>(named);
      break;
    default:  // 2: no operation
      break;
  }
}

void Pic::WriteOcw3(uint8_t value) {
  if ((value & kOcw3Poll) != 0) poll_ = true;
  if ((value & 0x02) != 0) reads_in_service_ = (value & 0x01) != 0;
  if ((value & 0x40) != 0) special_mask_ = (value & 0x20) != 0;
}

uint8_t Pic::Requests() const {
  return static_cast<uint8_t>((edges_ & ~elcr_) | (inputs_ & elcr_));
}

unsigned Pic::HighestPriority(uint8_t lines) const {
  for (unsigned priority = 0; priority < kNone; ++priority) {
    if ((lines & Bit(LineOfPriority(priority))) != 0) return priority;
  }
  return kNone;
}

unsigned Pic::LineOfPriority(unsigned priority) const {
  return (lowest_ + 1 + priority) & 7;
}

void Pic::Take(unsigned line) {
  edges_ &= static_cast<uint8_t>(~Bit(line));
  if (!auto_eoi_) {
    in_service_ |= Bit(line);
  } else if (rotate_on_auto_eoi_) {
    lowest_ = static_cast<uint8_t>(line);
  }
}

}  // namespace hypervisor
