// How fast this CPU's time-stamp counter and its local APIC's timer count,
// measured against the PIT, for about 4 ms at a time, until two measurements
// agree.
//
// Thread safety: used once, at boot, with interrupts off.

#ifndef HYPERVISOR_BOOT_CALIBRATION_H_
#define HYPERVISOR_BOOT_CALIBRATION_H_

#include <cstdint>

namespace hypervisor {

struct Calibration {
  uint64_t tsc_hertz;
  uint64_t apic_timer_hertz;  // with its divider at 1
};

// Leaves the local APIC's timer stopped. Ends the hypervisor if the PIT does
// not count. Precondition: EnableLocalApic.
Calibration Calibrate();

}  // namespace hypervisor

#endif  // HYPERVISOR_BOOT_CALIBRATION_H_
