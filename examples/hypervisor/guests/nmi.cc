// NMIs that a CPU sends to itself: they come with interrupts off, and one that
// is sent by the handler of another waits for its end.

#include "runtime/cpu.h"
#include "runtime/guest.h"
#include "runtime/interrupts.h"
#include "runtime/report.h"

namespace guest {
namespace {

constexpr unsigned kNmi = 2;
constexpr unsigned kRounds = 100;
constexpr unsigned kPatience = 100'000;
// The local APIC's interrupt command register (APM vol. 2, 16.5): an NMI, to
// itself.
constexpr Word kCommand = 0xfee00300;
constexpr uint32_t kNmiToSelf = 1u << 18 | 4u << 8;

volatile unsigned nmis = 0;
volatile unsigned depth = 0;
volatile unsigned to_send = 0;

void Send() { *reinterpret_cast<volatile uint32_t*>(kCommand) = kNmiToSelf; }

// Long enough for an NMI to come that is on its way.
void Dawdle() {
  for (unsigned i = 0; i < 1000; ++i) asm volatile("pause");
}

Handled OnNmi(InterruptFrame*) {
  CheckEqual(depth, 0, "handlers below this one");
  depth = depth + 1;
  nmis = nmis + 1;
  if (to_send > 0) {
    to_send = to_send - 1;
    Send();
    Dawdle();
  }
  depth = depth - 1;
  return Handled::kDone;
}

}  // namespace

void GuestMain() {
  SetHandler(kNmi, OnNmi);
  for (unsigned i = 1; i <= kRounds; ++i) {
    Send();
    Dawdle();
    CheckEqual(nmis, i, "NMIs, one by one");
  }
  nmis = 0;
  to_send = kRounds;
  Send();
  for (unsigned i = 0; i < kPatience && nmis < kRounds + 1; ++i) Dawdle();
  CheckEqual(nmis, kRounds + 1, "NMIs that handlers sent");
  Print(kRounds, " NMIs, and as many from their handlers: right\n");
}

}  // namespace guest
