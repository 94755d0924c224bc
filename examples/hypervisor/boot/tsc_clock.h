// The host's clock: nanoseconds since boot, from the time-stamp counter. It
// never goes back.
//
// Thread safety: any CPU whose counter is in step, any context.

#ifndef HYPERVISOR_BOOT_TSC_CLOCK_H_
#define HYPERVISOR_BOOT_TSC_CLOCK_H_

#include <cstdint>

namespace hypervisor {

// Called once, at boot: it starts at 0 now. `hertz` is at least 1 MHz.
void InitTscClock(uint64_t hertz);

uint64_t MonotonicNanoseconds();

uint64_t TscHertz();

}  // namespace hypervisor

#endif  // HYPERVISOR_BOOT_TSC_CLOCK_H_
