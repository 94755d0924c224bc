// HostTimer: what ends a guest's turn: the board's next event, or a quantum
// without one.
//
//  1. The CPU's timer is armed for no later than what was asked for last. To
//     arm it is dear under an emulator, so that a time that is too early is
//     left as it is: the guest exits once for nothing.
//
// Thread safety: one CPU.

#ifndef HYPERVISOR_VCPU_HOST_TIMER_H_
#define HYPERVISOR_VCPU_HOST_TIMER_H_

#include <cstdint>

#include "boot/apic_timer.h"

namespace hypervisor {

class HostTimer {
 public:
  // An interrupt at `deadline` at the latest; both are times of the one clock.
  void Arm(uint64_t now, uint64_t deadline) {
    if (TimerTicks() != ticks_) {
      ticks_ = TimerTicks();
      armed_ = 0;
    }
    if (armed_ != 0 && armed_ <= deadline) return;
    ArmTimer(deadline > now ? deadline - now : 1);
    armed_ = deadline;
  }

 private:
  uint64_t ticks_ = 0;
  uint64_t armed_ = 0;  // 0: it is not
};

}  // namespace hypervisor

#endif  // HYPERVISOR_VCPU_HOST_TIMER_H_
