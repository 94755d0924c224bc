#include "shim/time_calls.h"

#include <asm/errno.h>
#include <linux/futex.h>

#include "boot/apic_timer.h"
#include "boot/console.h"
#include "boot/exit.h"
#include "boot/tsc_clock.h"

namespace hypervisor {
namespace {

constexpr int64_t kNanosecondsPerSecond = 1000000000;
// TIMER_ABSTIME of <time.h>, which the kernel's headers do not have.
constexpr uint64_t kAbsolute = 1;

bool IsValid(const __kernel_timespec& time) {
  // Seconds are bounded so that nanoseconds fit into 64 bits, for 290 years.
  return time.tv_sec >= 0 && time.tv_nsec >= 0 &&
         time.tv_nsec < kNanosecondsPerSecond;
}

uint64_t ToNanoseconds(const __kernel_timespec& time) {
  constexpr int64_t kMaxSeconds = int64_t{1} << 33;
  const int64_t seconds = time.tv_sec < kMaxSeconds ? time.tv_sec : kMaxSeconds;
  return static_cast<uint64_t>(seconds * kNanosecondsPerSecond + time.tv_nsec);
}

}  // namespace

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
  if (!IsValid(*time)) return -EINVAL;
  const uint64_t start = flags & kAbsolute ? 0 : MonotonicNanoseconds();
  SleepUntil(start + ToNanoseconds(*time));
  return 0;
}

int64_t FutexCall(const uint32_t* word, uint64_t operation, uint32_t value,
                  const __kernel_timespec* timeout, uint64_t caller) {
  switch (operation & static_cast<uint64_t>(FUTEX_CMD_MASK)) {
    case FUTEX_WAIT:
    case FUTEX_WAIT_BITSET:
      break;
    case FUTEX_WAKE:
    case FUTEX_WAKE_BITSET:
      return 0;
    default:
      return -ENOSYS;
  }
  if (*static_cast<const volatile uint32_t*>(word) != value) return -EAGAIN;
  if (timeout == nullptr) {
    ConsoleWrite("hypervisor: a futex wait, called before ");
    ConsoleWriteHex(caller);
    ConsoleWrite(", on ");
    ConsoleWriteHex(reinterpret_cast<uintptr_t>(word));
    ConsoleWrite("\n");
    ExitBecause("deadlock: nobody is there to end the wait");
  }
  if (!IsValid(*timeout)) return -EINVAL;
  // FUTEX_WAIT has a time from now, the other one a moment.
  const bool from_now =
      (operation & static_cast<uint64_t>(FUTEX_CMD_MASK)) == FUTEX_WAIT;
  SleepUntil((from_now ? MonotonicNanoseconds() : 0) + ToNanoseconds(*timeout));
  return -ETIMEDOUT;
}

}  // namespace hypervisor
