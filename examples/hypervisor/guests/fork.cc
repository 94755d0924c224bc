// Address spaces made and torn down, as by a system that forks a lot: each
// child shares its parent's pages until one of them writes; children make
// children; some die early. Where there are two CPUs, now the one and now the
// other runs a process. What each should see is kept in a model beside the
// pages, and compared again and again. In the end no frame is lost.

#include "runtime/access.h"
#include "runtime/address_space.h"
#include "runtime/cpu.h"
#include "runtime/frames.h"
#include "runtime/guest.h"
#include "runtime/interrupts.h"
#include "runtime/placement_new.h"
#include "runtime/processors.h"
#include "runtime/random.h"
#include "runtime/report.h"

extern "C" void* memcpy(void* to, const void* from, size_t bytes);

namespace guest {
namespace {

constexpr unsigned kProcesses = 12;
constexpr unsigned kPages = 48;
// Of each CPU. Two, which wait for each other, take longer for one.
constexpr unsigned kSteps = 1500;
constexpr unsigned kStepsOfTwo = 300;
// Bit 9 of an entry is software's: the page is shared.
constexpr Entry kShared = 1u << 9;

// Several page tables of each process are in use.
Word PageAt(unsigned i) {
  return TestBase() + i % 3 * BytesOf(2) + i * kPageBytes;
}

// All of it is for who has the lock.
struct Process {
  SpinLock lock;
  bool alive = false;
  uint32_t content[kPages];
  alignas(AddressSpace) char place[sizeof(AddressSpace)];

  AddressSpace& space() { return *reinterpret_cast<AddressSpace*>(place); }
};

Process processes[kProcesses];
// What each CPU runs.
Process* running[kMaxCpus];
// Users of a frame, by its number from kFramesBegin on, under `users_lock`.
SpinLock users_lock;
uint8_t users[(kFramesEnd - kFramesBegin) / kPageBytes];
uint32_t forks = 0;
uint32_t copies = 0;

void Count(uint32_t* word) { __atomic_fetch_add(word, 1u, __ATOMIC_SEQ_CST); }

// Changes how many users the frame has, and returns how many there are.
unsigned AddUsers(Word frame, int change) {
  const SpinLockScope hold(users_lock);
  uint8_t& count = users[(frame - kFramesBegin) / kPageBytes];
  count = static_cast<uint8_t>(count + change);
  return count;
}

Word FrameOf(Process* process, unsigned page) {
  return static_cast<Word>(process->space().Get(1, PageAt(page)) &
                           AddressMask());
}

void Run(Process* process) {
  running[CpuNumber()] = process;
  process->space().Use();
}

void Release(Word frame) {
  if (AddUsers(frame, -1) == 0) FreeFrame(frame);
}

Handled OnFault(InterruptFrame* frame) {
  if ((frame->error_code & ~kFaultUser) != (kFaultPresent | kFaultWrite)) {
    return Handled::kNot;
  }
  Process* const process = running[CpuNumber()];
  const Word page = ReadCr2() & ~(kPageBytes - 1);
  const Entry entry = process->space().Get(1, page);
  if ((entry & kShared) == 0) return Handled::kNot;
  const auto old = static_cast<Word>(entry & AddressMask());
  Word mine = old;
  if (AddUsers(old, 0) > 1) {
    mine = AllocateFrame();
    memcpy(reinterpret_cast<void*>(mine), reinterpret_cast<const void*>(old),
           kPageBytes);
    AddUsers(mine, 1);
    Release(old);
    Count(&copies);
  }
  process->space().Map(page, mine, kAll);
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
    AddUsers(frame, 1);
    parent->space().Map(PageAt(i), frame, kPresent | kUser | kShared);
    child->space().Map(PageAt(i), frame, kPresent | kUser | kShared);
    child->content[i] = parent->content[i];
  }
  // The parent's writable translations are gone with this.
  ReloadCr3();
  Count(&forks);
}

void Kill(Process* process) {
  Run(process);
  for (unsigned i = 0; i < kPages; ++i) Release(FrameOf(process, i));
  process->space().~AddressSpace();
  process->alive = false;
  running[CpuNumber()] = nullptr;
}

void UseOnePage(Process* process, Random* random) {
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

void Step(Random* random) {
  Process* const one = &processes[random->Below(kProcesses)];
  Process* const other = &processes[random->Below(kProcesses)];
  if (!one->lock.TryLock()) return;
  if (one->alive) {
    Run(one);
    for (unsigned n = 0; n < 6; ++n) UseOnePage(one, random);
    if (other != one && other->lock.TryLock()) {
      if (!other->alive) {
        Fork(one, other);
      } else if (random->Below(3) == 0) {
        Kill(other);
      }
      other->lock.Unlock();
    }
  }
  // Nobody runs in tables that another CPU may free.
  LeaveSpaces();
  one->lock.Unlock();
}

void Work(unsigned cpu, unsigned steps) {
  Random random(cpu + 1);
  for (unsigned step = 0; step < steps; ++step) Step(&random);
}

void WorkThere() { Work(1, kStepsOfTwo); }

void CheckAndKill(Process* process) {
  Run(process);
  for (unsigned i = 0; i < kPages; ++i) {
    CheckEqual(Read(PageAt(i)), process->content[i], "a page at the end");
  }
  Kill(process);
}

}  // namespace

void GuestMain() {
  UsePaging();
  SetHandler(kPageFault, OnFault);
  const unsigned frames_before = FramesInUse();
  Create(&processes[0]);
  for (unsigned i = 0; i < kPages; ++i) {
    const Word frame = AllocateFrame();
    AddUsers(frame, 1);
    processes[0].space().Map(PageAt(i), frame, kAll);
    processes[0].content[i] = 0;
  }
  const bool two = CpuCount() > 1;
  if (two) StartCpu(1, WorkThere);
  Work(0, two ? kStepsOfTwo : kSteps);
  if (two) AwaitCpu(1);
  for (Process& process : processes) {
    if (process.alive) CheckAndKill(&process);
  }
  CheckEqual(FramesInUse(), frames_before, "frames in use at the end");
  Print(Levels(), " levels: ", forks, " forks, ", copies, " copies by ",
        two ? 2 : 1, " CPUs, no frame lost\n");
}

}  // namespace guest
