#include "boot/tsc_clock.h"

#include "boot/cpu.h"
#include "boot/exit.h"

namespace hypervisor {
namespace {

__extension__ using Wide = unsigned __int128;

constexpr unsigned kShift = 32;
constexpr uint64_t kNanosecondsPerSecond = 1000000000;

constinit uint64_t tsc_hertz = 0;
constinit uint64_t tsc_at_start = 0;
constinit uint64_t nanoseconds_per_tick = 0;  // times 2^kShift

}  // namespace

void InitTscClock(uint64_t hertz) {
  if (hertz < 1000000) ExitBecause("the time-stamp counter does not count");
  tsc_hertz = hertz;
  nanoseconds_per_tick = (kNanosecondsPerSecond << kShift) / hertz;
  tsc_at_start = ReadTsc();
}

uint64_t MonotonicNanoseconds() {
  const uint64_t ticks = ReadTsc() - tsc_at_start;
  return static_cast<uint64_t>(Wide{ticks} * nanoseconds_per_tick >> kShift);
}

uint64_t TscHertz() { return tsc_hertz; }

}  // namespace hypervisor
