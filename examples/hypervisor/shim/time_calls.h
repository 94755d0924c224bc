// The system calls that have to do with time: the clocks, which are all one,
// the host's (boot/tsc_clock.h), and sleeping, which is waiting for the tick.
//
// A futex on one CPU: nobody else runs, so a wait without a timeout whose value
// is still the expected one would never end. It ends the hypervisor with a
// report.
//
// Thread safety: one CPU, with interrupts off on entry; sleeping lets them in.

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
// `caller` is where the call was made, for the report.
int64_t FutexCall(const uint32_t* word, uint64_t operation, uint32_t value,
                  const __kernel_timespec* timeout, uint64_t caller);

}  // namespace hypervisor

#endif  // HYPERVISOR_SHIM_TIME_CALLS_H_
