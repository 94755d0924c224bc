// Two CPUs go from address space to address space, and edit the page tables of
// those that the other one will use: some through the identity map, some
// through a mapping of the table as a page, in the space that the CPU is in.
// Who loads CR3 must find all that was done before.

#include "runtime/access.h"
#include "runtime/address_space.h"
#include "runtime/cpu.h"
#include "runtime/frames.h"
#include "runtime/guest.h"
#include "runtime/placement_new.h"
#include "runtime/processors.h"
#include "runtime/random.h"
#include "runtime/report.h"

namespace guest {
namespace {

constexpr unsigned kSpaces = 5;
constexpr unsigned kPages = 24;
constexpr unsigned kFrames = 16;
constexpr unsigned kSteps = 1000;  // of each CPU

// A space has its pages, and behind them the page tables of all spaces as
// pages.
struct Space {
  SpinLock lock;
  unsigned frame[kPages];  // kFrames: not present
  alignas(AddressSpace) char place[sizeof(AddressSpace)];

  AddressSpace& tables() { return *reinterpret_cast<AddressSpace*>(place); }
};

Space spaces[kSpaces];
Word frames[kFrames];
uint32_t edits = 0;

Word PageAt(unsigned i) { return TestBase() + i * kPageBytes; }
Word TableWindow(unsigned space) {
  return TestBase() + BytesOf(2) + space * 3 * kPageBytes;
}
uint32_t MarkOf(unsigned frame) { return 0x5000 + frame; }

// `space` is locked, and is another one than this CPU is in, or its own.
void Edit(Space* space, unsigned number, Random* random) {
  const unsigned page = random->Below(kPages);
  const unsigned frame = random->Below(kFrames + 1);
  const Entry entry = frame == kFrames ? 0 : frames[frame] | kAll;
  const Word table = random->Below(2) == 0
                         ? space->tables().TableAt(1, PageAt(0))
                         : TableWindow(number);
  const Word offset = AddressSpace::OffsetOf(1, PageAt(page));
  if (EntryBytes() == 4) {
    PhysicalAt<uint32_t>(table + offset) = static_cast<uint32_t>(entry);
  } else {
    // Not present before it is another one: a guest of 32 bits writes halves.
    PhysicalAt<uint32_t>(table + offset) = 0;
    PhysicalAt<uint32_t>(table + offset + 4) =
        static_cast<uint32_t>(entry >> 32);
    PhysicalAt<uint32_t>(table + offset) = static_cast<uint32_t>(entry);
  }
  space->frame[page] = frame;
  __atomic_fetch_add(&edits, 1u, __ATOMIC_SEQ_CST);
}

// `space` is locked.
void UseAndCompare(Space* space, Random* random) {
  space->tables().Use();
  for (unsigned n = 0; n < 6; ++n) {
    const unsigned page = random->Below(kPages);
    const Ring ring = random->Below(3) == 0 ? Ring::k3 : Ring::k0;
    const Outcome outcome = Do(Access::kRead, ring, PageAt(page));
    const unsigned frame = space->frame[page];
    CheckEqual(outcome.ok ? 1 : 0, frame == kFrames ? 0 : 1,
               "whether a page is there");
    if (outcome.ok) CheckEqual(outcome.value, MarkOf(frame), "a page's frame");
  }
}

void Work(unsigned cpu) {
  Random random(cpu * 77 + 5);
  for (unsigned step = 0; step < kSteps; ++step) {
    const unsigned used = random.Below(kSpaces);
    {
      const SpinLockScope hold(spaces[used].lock);
      UseAndCompare(&spaces[used], &random);
      if (random.Below(3) == 0) {
        Edit(&spaces[used], used, &random);
        ReloadCr3();
        UseAndCompare(&spaces[used], &random);
      }
    }
    const unsigned edited = random.Below(kSpaces);
    if (!spaces[edited].lock.TryLock()) continue;
    Edit(&spaces[edited], edited, &random);
    spaces[edited].lock.Unlock();
  }
}

void WorkThere() { Work(1); }

}  // namespace

void GuestMain() {
  UsePaging();
  for (unsigned i = 0; i < kFrames; ++i) {
    frames[i] = AllocateFrame();
    PhysicalAt(frames[i]) = MarkOf(i);
  }
  for (Space& space : spaces) {
    new (space.place) AddressSpace;
    for (unsigned i = 0; i < kPages; ++i) {
      space.frame[i] = i % kFrames;
      space.tables().Map(PageAt(i), frames[i % kFrames], kAll);
    }
  }
  for (Space& space : spaces) {
    for (unsigned i = 0; i < kSpaces; ++i) {
      space.tables().Map(TableWindow(i),
                         spaces[i].tables().TableAt(1, PageAt(0)),
                         kPresent | kWritable);
    }
  }
  spaces[0].tables().Use();
  StartCpu(1, WorkThere);
  Work(0);
  AwaitCpu(1);
  Random random(3);
  for (Space& space : spaces) UseAndCompare(&space, &random);
  Print(Levels(), " levels: ", edits, " edits in ", kSpaces,
        " address spaces by two CPUs: right\n");
}

}  // namespace guest
