#include "shim/time_calls.h"

#include <asm/errno.h>

#include "boot/apic_timer.h"
#include "boot/tsc_clock.h"

namespace hypervisor {
namespace {

constexpr int64_t kNanosecondsPerSecond = 1000000000;
// TIMER_ABSTIME of <time.h>, which the kernel's headers do not have.
constexpr uint64_t kAbsolute = 1;

}  // namespace

bool IsValidTime(const __kernel_timespec& time) {
  // Seconds are bounded so that nanoseconds fit into 64 bits, for 290 years.
  return time.tv_sec >= 0 && time.tv_nsec >= 0 &&
         time.tv_nsec < kNanosecondsPerSecond;
}

uint64_t ToNanoseconds(const __kernel_timespec& time) {
  constexpr int64_t kMaxSeconds = int64_t{1} << 33;
  const int64_t seconds = time.tv_sec < kMaxSeconds ? time.tv_sec : kMaxSeconds;
  return static_cast<uint64_t>(seconds * kNanosecondsPerSecond + time.tv_nsec);
}

int64_t ClockGetTimeCall(__kernel_timespec* time) {
  const auto now = static_cast<int64_t>(MonotonicNanoseconds());
  time->tv_sec = now / kNanosecondsPerSecond;
  time->tv_nsec = now % kNanosecondsPerSecond;
  return 0;
}

int64_t GetTimeOfDayCall(__kernel_old_timeval* time) {
  if (time == nullptr) return 0;
  const auto now = static_cast<int64_t>(MonotonicNanoseconds());
  time->tv_sec = now / kNanosecondsPerSecond;
  time->tv_usec = now % kNanosecondsPerSecond / 1000;
  return 0;
}

int64_t ClockGetResolutionCall(__kernel_timespec* resolution) {
  if (resolution == nullptr) return 0;
  resolution->tv_sec = 0;
  resolution->tv_nsec = 1;
  return 0;
}

int64_t SleepCall(uint64_t flags, const __kernel_timespec* time) {
  if (!IsValidTime(*time)) return -EINVAL;
  const uint64_t start = flags & kAbsolute ? 0 : MonotonicNanoseconds();
  SleepUntil(start + ToNanoseconds(*time));
  return 0;
}

}  // namespace hypervisor
