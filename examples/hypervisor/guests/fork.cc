// Address spaces made and torn down, as by a system that forks a lot: each
// child shares its parent's pages until one of them writes; children make
// children; some die early. What each should see is kept in a model beside the
// pages, and compared again and again. In the end no frame is lost.

#include "runtime/access.h"
#include "runtime/address_space.h"
#include "runtime/cpu.h"
#include "runtime/frames.h"
#include "runtime/guest.h"
#include "runtime/interrupts.h"
#include "runtime/report.h"

extern "C" void* memcpy(void* to, const void* from, size_t bytes);

inline void* operator new(size_t, void* place) noexcept { return place; }

namespace guest {
namespace {

constexpr unsigned kProcesses = 12;
constexpr unsigned kPages = 48;
constexpr unsigned kSteps = 1500;
// Bit 9 of an entry is software's: the page is shared.
constexpr Entry kShared = 1u << 9;

class Random {
 public:
  unsigned Below(unsigned bound) {
    state_ = state_ * 1103515245u + 12345u;
    return (state_ >> 16) % bound;
  }

 private:
  uint32_t state_ = 1;
};

// Several page tables of each process are in use.
Word PageAt(unsigned i) {
  return TestBase() + i % 3 * BytesOf(2) + i * kPageBytes;
}

struct Process {
  bool alive = false;
  uint32_t content[kPages];
  alignas(AddressSpace) char place[sizeof(AddressSpace)];

  AddressSpace& space() { return *reinterpret_cast<AddressSpace*>(place); }
};

Process processes[kProcesses];
Process* running = nullptr;
// Users of a frame, by its number from kFramesBegin on.
uint8_t users[(kFramesEnd - kFramesBegin) / kPageBytes];
unsigned forks = 0;
unsigned copies = 0;

uint8_t& UsersOf(Word frame) {
  return users[(frame - kFramesBegin) / kPageBytes];
}

Word FrameOf(Process* process, unsigned page) {
  return static_cast<Word>(process->space().Get(1, PageAt(page)) &
                           AddressMask());
}

void Run(Process* process) {
  running = process;
  process->space().Use();
}

void Release(Word frame) {
  if (--UsersOf(frame) == 0) FreeFrame(frame);
}

Handled OnFault(InterruptFrame* frame) {
  if ((frame->error_code & ~kFaultUser) != (kFaultPresent | kFaultWrite)) {
    return Handled::kNot;
  }
  const Word page = ReadCr2() & ~(kPageBytes - 1);
  const Entry entry = running->space().Get(1, page);
  if ((entry & kShared) == 0) return Handled::kNot;
  const auto old = static_cast<Word>(entry & AddressMask());
  Word mine = old;
  if (UsersOf(old) > 1) {
    mine = AllocateFrame();
    memcpy(reinterpret_cast<void*>(mine), reinterpret_cast<const void*>(old),
           kPageBytes);
    UsersOf(mine) = 1;
    Release(old);
    ++copies;
  }
  running->space().Map(page, mine, kAll);
  Invlpg(page);
  return Handled::kDone;
}

void Create(Process* process) {
  new (process->place) AddressSpace;
  process->alive = true;
}

void Fork(Process* parent, Process* child) {
  Create(child);
  Run(parent);
  for (unsigned i = 0; i < kPages; ++i) {
    const Word frame = FrameOf(parent, i);
    ++UsersOf(frame);
    parent->space().Map(PageAt(i), frame, kPresent | kUser | kShared);
    child->space().Map(PageAt(i), frame, kPresent | kUser | kShared);
    child->content[i] = parent->content[i];
  }
  // The parent's writable translations are gone with this.
  ReloadCr3();
  ++forks;
}

void Kill(Process* process) {
  Run(process);
  for (unsigned i = 0; i < kPages; ++i) Release(FrameOf(process, i));
  process->space().~AddressSpace();
  process->alive = false;
  running = nullptr;
}

void Work(Process* process, Random* random) {
  Run(process);
  for (unsigned n = 0; n < 6; ++n) {
    const unsigned page = random->Below(kPages);
    const Ring ring = random->Below(2) == 0 ? Ring::k0 : Ring::k3;
    const Outcome read = Do(Access::kRead, ring, PageAt(page));
    Check(read.ok, "a read of a process's own page");
    CheckEqual(read.value, process->content[page], "what a process reads");
    const uint32_t value = random->Below(1u << 15);
    Check(Do(Access::kWrite, ring, PageAt(page), value).ok,
          "a write to a process's own page");
    process->content[page] = value;
  }
}

void CheckAll() {
  for (Process& process : processes) {
    if (!process.alive) continue;
    Run(&process);
    for (unsigned i = 0; i < kPages; ++i) {
      CheckEqual(Read(PageAt(i)), process.content[i], "a page at the end");
    }
  }
}

void Step(Random* random) {
  Process* const one = &processes[random->Below(kProcesses)];
  Process* const other = &processes[random->Below(kProcesses)];
  if (!one->alive) return;
  Work(one, random);
  if (!other->alive) {
    Fork(one, other);
  } else if (other != one && random->Below(3) == 0) {
    Kill(other);
  }
}

}  // namespace

void GuestMain() {
  UsePaging();
  SetHandler(kPageFault, OnFault);
  const unsigned frames_before = FramesInUse();
  Create(&processes[0]);
  for (unsigned i = 0; i < kPages; ++i) {
    const Word frame = AllocateFrame();
    UsersOf(frame) = 1;
    processes[0].space().Map(PageAt(i), frame, kAll);
    processes[0].content[i] = 0;
  }
  Random random;
  for (unsigned step = 0; step < kSteps; ++step) Step(&random);
  CheckAll();
  for (Process& process : processes) {
    if (process.alive) Kill(&process);
  }
  CheckEqual(FramesInUse(), frames_before, "frames in use at the end");
  Print(Levels(), " levels: ", forks, " forks, ", copies,
        " copies, no frame lost\n");
}

}  // namespace guest
