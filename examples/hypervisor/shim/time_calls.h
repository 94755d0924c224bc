// The system calls that have to do with time: the clocks, which are all one,
// the host's (boot/tsc_clock.h), and sleeping, which is waiting for the tick.
//
// Thread safety: any CPU, with interrupts off on entry; sleeping lets them in.

#ifndef HYPERVISOR_SHIM_TIME_CALLS_H_
#define HYPERVISOR_SHIM_TIME_CALLS_H_

#include <linux/time_types.h>

#include <cstdint>

namespace hypervisor {

int64_t ClockGetTimeCall(__kernel_timespec* time);
int64_t GetTimeOfDayCall(__kernel_old_timeval* time);
int64_t ClockGetResolutionCall(__kernel_timespec* resolution);
// `flags`: TIMER_ABSTIME or 0.
int64_t SleepCall(uint64_t flags, const __kernel_timespec* time);

// What other calls that have a timeout need of it. A time that is too long for
// 64 bits is cut.
bool IsValidTime(const __kernel_timespec& time);
uint64_t ToNanoseconds(const __kernel_timespec& time);

}  // namespace hypervisor

#endif  // HYPERVISOR_SHIM_TIME_CALLS_H_
