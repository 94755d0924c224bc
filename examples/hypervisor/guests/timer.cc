// Timer interrupts, by the PIT and the 8259s, while page tables change: the
// handler moves a page of its own from frame to frame, and the code that it
// interrupts, in the supervisor's mode, in the user's and halted, others.

#include "runtime/access.h"
#include "runtime/address_space.h"
#include "runtime/cpu.h"
#include "runtime/frames.h"
#include "runtime/guest.h"
#include "runtime/interrupts.h"
#include "runtime/report.h"

namespace guest {
namespace {

constexpr unsigned kTicks = 200;
constexpr unsigned kHaltedTicks = 50;
constexpr unsigned kFrames = 4;
// Intel 8259A: the ports of the first and the second one.
constexpr uint16_t kPic1 = 0x20;
constexpr uint16_t kPic2 = 0xa0;
constexpr uint8_t kEndOfInterrupt = 0x20;
constexpr unsigned kTimerVector = 0x20;
// Intel 8254: a tick a millisecond by channel 0, as a rate generator.
constexpr uint16_t kPitCounter = 0x40;
constexpr uint16_t kPitControl = 0x43;
constexpr uint8_t kRateGenerator = 0x34;
constexpr uint16_t kDivisor = 1193;

Word frames[kFrames];
AddressSpace* space = nullptr;
volatile unsigned ticks = 0;

Word HandlerPage() { return TestBase(); }
Word MainPage(unsigned i) { return TestBase() + (i + 1) * 5 * kPageBytes; }

Handled OnTick(InterruptFrame*) {
  const unsigned tick = ticks + 1;
  space->Map(HandlerPage(), frames[tick % kFrames], kAll);
  Invlpg(HandlerPage());
  CheckEqual(PhysicalAt(HandlerPage()), tick % kFrames, "the handler's page");
  ticks = tick;
  Out8(kPic1, kEndOfInterrupt);
  return Handled::kDone;
}

void StartTimer() {
  // ICW1 to ICW4, then masks: IRQ0 only.
  Out8(kPic1, 0x11);
  Out8(kPic2, 0x11);
  Out8(kPic1 + 1, kTimerVector);
  Out8(kPic2 + 1, kTimerVector + 8);
  Out8(kPic1 + 1, 4);
  Out8(kPic2 + 1, 2);
  Out8(kPic1 + 1, 1);
  Out8(kPic2 + 1, 1);
  Out8(kPic1 + 1, 0xfe);
  Out8(kPic2 + 1, 0xff);
  Out8(kPitControl, kRateGenerator);
  Out8(kPitCounter, kDivisor & 0xff);
  Out8(kPitCounter, kDivisor >> 8);
  SetHandler(kTimerVector, OnTick);
}

// One page after the other to another frame; each is read at once.
unsigned ChangePages() {
  unsigned changes = 0;
  while (ticks < kTicks) {
    const Word page = MainPage(changes % 64);
    space->Map(page, frames[changes % kFrames], kAll);
    Invlpg(page);
    const Ring ring = changes % 2 == 0 ? Ring::k0 : Ring::k3;
    const Outcome outcome = Do(Access::kRead, ring, page);
    Check(outcome.ok, "a read while the timer ticks");
    CheckEqual(outcome.value, changes % kFrames, "what was read");
    const unsigned before = ticks;
    const uint32_t seen = PhysicalAt(HandlerPage());
    if (before == ticks) {
      CheckEqual(seen, before % kFrames, "the handler's page, from outside");
    }
    ++changes;
  }
  return changes;
}

}  // namespace

void GuestMain() {
  UsePaging();
  AddressSpace own;
  space = &own;
  for (unsigned i = 0; i < kFrames; ++i) {
    frames[i] = AllocateFrame();
    PhysicalAt(frames[i]) = i;
  }
  own.Map(HandlerPage(), frames[0], kAll);
  own.Use();
  StartTimer();
  EnableInterrupts();
  const unsigned changes = ChangePages();
  Check(changes > 0, "work done between two ticks");
  DisableInterrupts();
  const unsigned begin = ticks;
  while (ticks - begin < kHaltedTicks) Halt();
  Print(Levels(), " levels: ", kTicks + kHaltedTicks,
        " ticks while pages moved: right\n");
}

}  // namespace guest
