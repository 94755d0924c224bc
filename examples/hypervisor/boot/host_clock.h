// The host's clock (tsc_clock.h) as the guest's devices take it.
//
// Thread safety: no state.

#ifndef HYPERVISOR_BOOT_HOST_CLOCK_H_
#define HYPERVISOR_BOOT_HOST_CLOCK_H_

#include <cstdint>

#include "boot/tsc_clock.h"
#include "devices/clock.h"

namespace hypervisor {

class HostClock final : public Clock {
 public:
  // Since the hypervisor's boot.
  uint64_t Nanoseconds() override { return MonotonicNanoseconds(); }
};

}  // namespace hypervisor

#endif  // HYPERVISOR_BOOT_HOST_CLOCK_H_
