// Interrupts between two CPUs: each wakes the other from HLT, in turns; an NMI
// wakes one that has halted with interrupts disabled; and a CPU that computes
// is interrupted at once.

#include "runtime/address_space.h"
#include "runtime/cpu.h"
#include "runtime/guest.h"
#include "runtime/interrupts.h"
#include "runtime/processors.h"
#include "runtime/report.h"

namespace guest {
namespace {

constexpr unsigned kNmi = 2;
constexpr uint8_t kBallVector = 0x61;
constexpr unsigned kTurns = 400;
constexpr unsigned kNmis = 100;

unsigned balls[2];  // that have arrived at each CPU
unsigned nmis = 0;
unsigned asleep = 0;

Handled OnBall(InterruptFrame*) {
  const unsigned cpu = CpuNumber();
  Store(balls[cpu], balls[cpu] + 1);
  EndOfInterrupt();
  return Handled::kDone;
}

Handled OnNmi(InterruptFrame*) {
  Store(nmis, nmis + 1);
  return Handled::kDone;
}

// Halts until `count` balls have arrived.
void Await(unsigned cpu, unsigned count) {
  while (Load(balls[cpu]) < count) Halt();
  CheckEqual(balls[cpu], count, "balls that have arrived");
}

void PlayThere() {
  for (unsigned i = 1; i <= kTurns; ++i) {
    Await(1, i);
    SendInterrupt(0, kBallVector);
  }
  // Busy, with interrupts enabled.
  EnableInterrupts();
  WaitUntil([] { return Load(balls[1]) == 2 * kTurns; }, "balls come");
  DisableInterrupts();
  for (unsigned i = 1; i <= kNmis; ++i) {
    Store(asleep, i);
    if (Load(nmis) < i) asm volatile("hlt");
    WaitUntil([&] { return Load(nmis) >= i; }, "an NMI comes");
  }
}

}  // namespace

void GuestMain() {
  UsePaging();
  SetHandler(kBallVector, OnBall);
  SetHandler(kNmi, OnNmi);
  StartCpu(1, PlayThere);
  for (unsigned i = 1; i <= kTurns; ++i) {
    SendInterrupt(1, kBallVector);
    Await(0, i);
  }
  for (unsigned i = 1; i <= kTurns; ++i) {
    SendInterrupt(1, kBallVector);
    WaitUntil([&] { return Load(balls[1]) == kTurns + i; },
              "a busy CPU is interrupted");
  }
  for (unsigned i = 1; i <= kNmis; ++i) {
    WaitUntil([&] { return Load(asleep) == i; }, "CPU 1 goes on");
    SendNmi(1);
    WaitUntil([&] { return Load(nmis) == i; }, "CPU 1 has its NMI");
  }
  AwaitCpu(1);
  Print(Levels(), " levels: ", 3 * kTurns, " interrupts and ", kNmis,
        " NMIs from CPU to CPU\n");
}

}  // namespace guest
