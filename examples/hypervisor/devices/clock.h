// The guest's time, as its devices read it.
//
// Invariants:
//  1. Nanoseconds() never goes back.
//  2. Every time that a device names (NextEvent) is on this clock.
//
// Thread safety: an implementation says its own; a device calls it from the
// thread that runs the device.

#ifndef HYPERVISOR_DEVICES_CLOCK_H_
#define HYPERVISOR_DEVICES_CLOCK_H_

#include <cstdint>

namespace hypervisor {

inline constexpr uint64_t kNanosecondsPerSecond = 1'000'000'000;

class Clock {
 public:
  virtual ~Clock() = default;

  // Since a moment of the implementation's choice, as a rule the guest's start.
  virtual uint64_t Nanoseconds() = 0;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_DEVICES_CLOCK_H_
