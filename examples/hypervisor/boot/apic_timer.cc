#include "boot/apic_timer.h"

#include <atomic>

#include "boot/exit.h"
#include "boot/local_apic.h"
#include "boot/trap.h"
#include "boot/tsc_clock.h"

namespace hypervisor {
namespace {

__extension__ using Wide = unsigned __int128;

constexpr unsigned kShift = 32;
constexpr uint64_t kNanosecondsPerSecond = 1000000000;
constexpr uint64_t kNever = ~uint64_t{0};

constinit uint64_t counts_per_nanosecond = 0;  // times 2^kShift
constinit std::atomic<uint64_t> ticks = 0;
// On MonotonicNanoseconds' scale; kNever when the timer is not armed.
constinit std::atomic<uint64_t> armed_for = kNever;

uint32_t CountsFor(uint64_t nanoseconds) {
  const Wide counts = Wide{nanoseconds} * counts_per_nanosecond >> kShift;
  if (counts > 0xffffffff) return 0xffffffff;
  // 0 would stop the timer (SDM vol. 3, 11.5.4).
  return counts == 0 ? 1 : static_cast<uint32_t>(counts);
}

}  // namespace

void InitApicTimer(uint64_t hertz) {
  if (hertz < 1000) ExitBecause("the local APIC's timer does not count");
  if (hertz >= kNanosecondsPerSecond << 2) {
    ExitBecause("the local APIC's timer is too fast");
  }
  counts_per_nanosecond = (hertz << kShift) / kNanosecondsPerSecond;
  ApicWrite(ApicRegister::kTimer, kTimerVector);  // one-shot, not masked
}

void ArmTimer(uint64_t nanoseconds) {
  armed_for.store(MonotonicNanoseconds() + nanoseconds,
                  std::memory_order_relaxed);
  ApicWrite(ApicRegister::kTimerInitialCount, CountsFor(nanoseconds));
}

void DisarmTimer() {
  armed_for.store(kNever, std::memory_order_relaxed);
  ApicWrite(ApicRegister::kTimerInitialCount, 0);
}

uint64_t TimerTicks() { return ticks.load(std::memory_order_relaxed); }

void WaitForInterrupt() {
  // STI lets nothing in before the next instruction has begun, so that HLT does
  // not miss an interrupt that was pending (APM vol. 3, STI).
  __asm__ volatile("sti; hlt; cli" : : : "memory", "cc");
}

void TakePendingInterrupts() {
  __asm__ volatile("sti; nop; cli" : : : "memory", "cc");
}

void SleepUntil(uint64_t deadline) {
  const uint64_t armed_before = armed_for.load(std::memory_order_relaxed);
  while (true) {
    const uint64_t now = MonotonicNanoseconds();
    if (now >= deadline) break;
    ArmTimer(deadline - now);
    WaitForInterrupt();
  }
  if (armed_before == kNever) return DisarmTimer();
  const uint64_t now = MonotonicNanoseconds();
  ArmTimer(armed_before > now ? armed_before - now : 0);
}

void HandleTimerInterrupt() {
  armed_for.store(kNever, std::memory_order_relaxed);
  ticks.store(TimerTicks() + 1, std::memory_order_relaxed);
  ApicWrite(ApicRegister::kEndOfInterrupt, 0);
}

}  // namespace hypervisor
