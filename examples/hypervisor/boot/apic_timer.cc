#include "boot/apic_timer.h"

#include <atomic>

#include "boot/exit.h"
#include "boot/local_apic.h"
#include "boot/per_cpu.h"
#include "boot/trap.h"
#include "boot/tsc_clock.h"

namespace hypervisor {
namespace {

__extension__ using Wide = unsigned __int128;

constexpr unsigned kShift = 32;
constexpr uint64_t kNanosecondsPerSecond = 1000000000;
constexpr uint64_t kNever = PerCpu::kNever;

constinit uint64_t counts_per_nanosecond = 0;  // times 2^kShift

std::atomic<uint64_t>& ArmedFor() { return ThisCpu().timer_armed_for; }

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
  StartApicTimer();
}

void StartApicTimer() {
  constexpr uint32_t kDivideByOne = 0xb;
  ApicWrite(ApicRegister::kTimerDivide, kDivideByOne);
  ApicWrite(ApicRegister::kTimer, kTimerVector);  // one-shot, not masked
}

void ArmTimer(uint64_t nanoseconds) {
  ArmedFor().store(MonotonicNanoseconds() + nanoseconds,
                   std::memory_order_relaxed);
  ApicWrite(ApicRegister::kTimerInitialCount, CountsFor(nanoseconds));
}

void DisarmTimer() {
  ArmedFor().store(kNever, std::memory_order_relaxed);
  ApicWrite(ApicRegister::kTimerInitialCount, 0);
}

uint64_t TimerTicks() {
  return ThisCpu().timer_ticks.load(std::memory_order_relaxed);
}

void WaitForInterrupt() {
  // STI lets nothing in before the next instruction has begun, so that HLT does
  // not miss an interrupt that was pending (APM vol. 3, STI).
  __asm__ volatile("sti; hlt; cli" : : : "memory", "cc");
}

void TakePendingInterrupts() {
  __asm__ volatile("sti; nop; cli" : : : "memory", "cc");
}

void SleepUntil(uint64_t deadline) {
  const uint64_t armed_before = TimerArmedFor();
  while (true) {
    const uint64_t now = MonotonicNanoseconds();
    if (now >= deadline) break;
    ArmTimer(deadline - now);
    WaitForInterrupt();
  }
  RearmTimer(armed_before);
}

uint64_t TimerArmedFor() { return ArmedFor().load(std::memory_order_relaxed); }

void RearmTimer(uint64_t armed_before) {
  if (armed_before == kNever) return DisarmTimer();
  const uint64_t now = MonotonicNanoseconds();
  ArmTimer(armed_before > now ? armed_before - now : 0);
}

void HandleTimerInterrupt() {
  ArmedFor().store(kNever, std::memory_order_relaxed);
  ThisCpu().timer_ticks.store(TimerTicks() + 1, std::memory_order_relaxed);
  ApicWrite(ApicRegister::kEndOfInterrupt, 0);
}

}  // namespace hypervisor
