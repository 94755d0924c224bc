// The host's tick: the CPU's local APIC timer in one-shot mode, and how to wait
// for it. Interrupts are off in the hypervisor (RFLAGS.IF = 0) but in the two
// calls below that say so, and while the guest runs.
//
//   ArmTimer(1000000);
//   const uint64_t before = TimerTicks();
//   while (TimerTicks() == before) WaitForInterrupt();
//
// The interrupt's handler counts, and nothing else: it may come at any
// instruction where interrupts are on.
//
// Thread safety: each CPU has its own timer, and each call is about that of the
// CPU which makes it.

#ifndef HYPERVISOR_BOOT_APIC_TIMER_H_
#define HYPERVISOR_BOOT_APIC_TIMER_H_

#include <cstdint>

namespace hypervisor {

// Called once, at boot: `hertz` is of calibration.h.
void InitApicTimer(uint64_t hertz);
// Called once on each other CPU: all count at the same rate.
void StartApicTimer();

// One interrupt, `nanoseconds` from now (at least one count of the timer), in
// place of the one that was armed before. A time that is beyond what the timer
// can count, 2^32 / its frequency, is cut to that: the interrupt comes early,
// and who waits for longer arms it again.
void ArmTimer(uint64_t nanoseconds);

// No interrupt. One that the CPU has not taken yet may still come.
void DisarmTimer();

// What this CPU's timer is armed for, on MonotonicNanoseconds' scale, and how
// to arm it for that again after something else; at once if that is over.
uint64_t TimerArmedFor();
void RearmTimer(uint64_t armed_before);

// Timer interrupts that this CPU has taken since boot.
uint64_t TimerTicks();

// Halts until an interrupt has been handled; returns at once, after its
// handler, if one was pending. Interrupts are on during the call, and off after
// it.
void WaitForInterrupt();

// Takes the interrupts that are pending, if any: they are on for one
// instruction.
void TakePendingInterrupts();

// Halts until MonotonicNanoseconds() is at least `deadline`. The timer is armed
// afterwards as it was before (or fires at once if it was due meanwhile).
void SleepUntil(uint64_t deadline);

// Called by trap.cc.
void HandleTimerInterrupt();

}  // namespace hypervisor

#endif  // HYPERVISOR_BOOT_APIC_TIMER_H_
