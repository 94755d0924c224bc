// What a device is tested with: a clock that stands until it is told to go, and
// an interrupt line that remembers.
//
// Thread safety: none.

#ifndef HYPERVISOR_TESTS_FAKE_BOARD_H_
#define HYPERVISOR_TESTS_FAKE_BOARD_H_

#include <cstdint>

#include "devices/clock.h"
#include "devices/interrupts.h"

namespace hypervisor::testing {

class FakeClock : public Clock {
 public:
  uint64_t Nanoseconds() override { return now_; }
  void Pass(uint64_t nanoseconds) { now_ += nanoseconds; }
  void Set(uint64_t nanoseconds) { now_ = nanoseconds; }

 private:
  uint64_t now_ = 0;
};

class FakeLine : public IrqLine {
 public:
  void Set(Signal signal) override {
    if (signal == Signal::kHigh && level_ == Signal::kLow) ++rises_;
    level_ = signal;
  }
  bool high() const { return level_ == Signal::kHigh; }
  // Rising edges since the last call.
  unsigned TakeRises() {
    const unsigned rises = rises_;
    rises_ = 0;
    return rises;
  }

 private:
  Signal level_ = Signal::kLow;
  unsigned rises_ = 0;
};

}  // namespace hypervisor::testing

#endif  // HYPERVISOR_TESTS_FAKE_BOARD_H_
