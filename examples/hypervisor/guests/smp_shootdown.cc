// TLB shootdown. CPU 0 changes an entry (another frame, no right to write, not
// present) and interrupts CPU 1, which forgets the translation, and says so.
// From then on CPU 1 must see what the entry says, and nothing older: it looks
// at the page between any two interrupts, and CPU 0 poisons what must not be
// seen any more, and watches that it is not written.

#include "runtime/access.h"
#include "runtime/address_space.h"
#include "runtime/cpu.h"
#include "runtime/frames.h"
#include "runtime/guest.h"
#include "runtime/interrupts.h"
#include "runtime/processors.h"
#include "runtime/report.h"

namespace guest {
namespace {

constexpr uint8_t kFlushVector = 0x51;
constexpr unsigned kPages = 3;
constexpr unsigned kSteps = 400;
constexpr uint32_t kPoison = 0xdeadbeef;

enum class Right : uint32_t { kNone, kRead, kWrite };

// What step `step` does to its page: round and round.
Right RightAfter(unsigned step) {
  switch (step / kPages % 4) {
    case 0:
    case 3:
      return Right::kWrite;
    case 1:
      return Right::kRead;
    default:
      return Right::kNone;
  }
}
unsigned PageOf(unsigned step) { return step % kPages; }

AddressSpace* space = nullptr;
// Steps that have begun, and that CPU 1 has served.
unsigned begun = kPages;
unsigned served = kPages;
bool over = false;
unsigned looks = 0;

Word PageAt(unsigned page) { return TestBase() + page * 7 * kPageBytes; }
// The frame of a page holds its mark after the step that gave it.
uint32_t MarkOf(unsigned step) { return 0x10000 + step; }

// The step of a page that is the last one of all that is below `count`.
unsigned LastOf(unsigned page, unsigned count) {
  return count - 1 - (count - 1 + kPages - page) % kPages;
}

Handled OnFlush(InterruptFrame*) {
  const unsigned step = Load(begun) - 1;
  Invlpg(PageAt(PageOf(step)));
  Store(served, step + 1);
  EndOfInterrupt();
  return Handled::kDone;
}

// The access must go as a step from `from` to `to` allows: one that began later
// may be seen already.
bool Allows(unsigned page, unsigned from, unsigned to, bool write,
            const Outcome& outcome) {
  for (unsigned step = LastOf(page, from); step < to; step += kPages) {
    const Right right = RightAfter(step);
    const bool ok = write ? right == Right::kWrite : right != Right::kNone;
    if (ok != outcome.ok) continue;
    if (!ok || write || outcome.value == MarkOf(step)) return true;
  }
  return false;
}

void LookAt(unsigned page, bool write) {
  // Interrupts are off: what is served stays so.
  const unsigned from = Load(served);
  const Outcome outcome = Do(write ? Access::kWrite : Access::kRead, Ring::k0,
                             PageAt(page) + (write ? 4 : 0), looks);
  const unsigned to = Load(begun);
  if (Allows(page, from, to, write, outcome)) return;
  Print("page ", page, write ? " written" : " read", ": ok ",
        outcome.ok ? 1 : 0, ", value ", Hex(outcome.value), ", steps ", from,
        " to ", to, "\n");
  Check(false, "what CPU 1 sees of a page");
}

void Watch() {
  space->Use();
  while (!Load(over)) {
    LookAt(looks % kPages, looks / kPages % 2 != 0);
    ++looks;
    if (looks % 3 == 0) TakeInterrupts();
  }
}

void Step(unsigned step, Word* frames) {
  const Word page = PageAt(PageOf(step));
  const Word old = frames[PageOf(step)];
  const Word frame = AllocateFrame();
  PhysicalAt(frame) = MarkOf(step);
  const Right right = RightAfter(step);
  Store(begun, step + 1);
  space->Map(page, frame,
             right == Right::kNone   ? 0
             : right == Right::kRead ? kPresent | kUser
                                     : kAll);
  Invlpg(page);
  SendInterrupt(1, kFlushVector);
  WaitUntil([&] { return Load(served) == step + 1; }, "CPU 1 serves a flush");
  PhysicalAt(old) = kPoison;
  PhysicalAt(old + 4) = kPoison;
  const unsigned until = Load(looks) + 2 * kPages;
  WaitUntil([&] { return Load(looks) >= until; }, "CPU 1 looks");
  CheckEqual(PhysicalAt(old + 4), kPoison, "a frame that is mapped no more");
  if (right != Right::kWrite) {
    CheckEqual(PhysicalAt(frame + 4), 0, "a frame that nobody may write");
  }
  FreeFrame(old);
  frames[PageOf(step)] = frame;
}

}  // namespace

void GuestMain() {
  UsePaging();
  SetHandler(kFlushVector, OnFlush);
  AddressSpace own;
  space = &own;
  Word frames[kPages];
  for (unsigned page = 0; page < kPages; ++page) {
    frames[page] = AllocateFrame();
    PhysicalAt(frames[page]) = MarkOf(page);
    own.Map(PageAt(page), frames[page], kAll);
  }
  own.Use();
  StartCpu(1, Watch);
  for (unsigned step = kPages; step < kSteps; ++step) Step(step, frames);
  Store(over, true);
  AwaitCpu(1);
  Print(Levels(), " levels: ", kSteps, " changes of entries, ", looks,
        " looks by the other CPU: right\n");
}

}  // namespace guest
