// Hardware task switches, as 32-bit protected mode has them (SDM vol. 3,
// chapter 7; APM vol. 2, chapter 12): CALL and IRET, JMP, and task gates for an
// interrupt, a page fault and a double fault; each task in an address space of
// its own. What the CPU stores in the TSS, its busy bit, NT, CR0.TS and the
// back link are looked at.

#include <stddef.h>

#include "runtime/access.h"
#include "runtime/address_space.h"
#include "runtime/cpu.h"
#include "runtime/frames.h"
#include "runtime/guest.h"
#include "runtime/interrupts.h"
#include "runtime/report.h"

extern "C" {
extern const char task_called[];
extern const char task_jumped[];
extern const char task_fault[];
extern uint64_t gdt[];

void CallTask(uint32_t selector);
void JumpToTask(uint32_t selector);
void OnCalled();
void OnJumped();
void OnFault(uint32_t unused);
}

namespace guest {
namespace {

struct Tss {
  uint32_t link;
  uint32_t esp0, ss0, esp1, ss1, esp2, ss2;
  uint32_t cr3, eip, eflags;
  uint32_t eax, ecx, edx, ebx, esp, ebp, esi, edi;
  uint32_t es, cs, ss, ds, fs, gs, ldt;
  uint16_t trap, io_map;
};
static_assert(sizeof(Tss) == 104);

constexpr uint16_t kMain = 0x38;
constexpr uint16_t kCalled = 0x40;
constexpr uint16_t kJumped = 0x48;
constexpr uint16_t kFaulted = 0x50;
constexpr uint16_t kDouble = 0x58;
constexpr unsigned kTaskVector = 0x50;
constexpr uint32_t kFlagNt = 1u << 14;
constexpr uint64_t kBusy = uint64_t{2} << 40;
constexpr unsigned kStackBytes = 8192;
constexpr unsigned kRounds = 20;

struct Task {
  Tss tss;
  alignas(16) char stack[kStackBytes];
};
Task main_task, called, jumped, faulted, doubled;

// A page that each task has with another frame.
Word OwnPage() { return TestBase(); }
// A page that is mapped by the task for page faults.
Word LatePage() { return TestBase() + kPageBytes; }
// Nothing is ever there.
Word NoPage() { return TestBase() + 16 * kPageBytes; }

AddressSpace* main_space = nullptr;
Word late_frame = 0;
// How often each task ran.
unsigned calls = 0;
unsigned jumps = 0;
unsigned page_faults = 0;
unsigned double_faults = 0;
// Where the main task goes on after a double fault.
uint32_t resume_ip = 0;
uint32_t resume_stack = 0;

void Describe(uint16_t selector, Task* task) {
  const auto base = reinterpret_cast<Word>(&task->tss);
  gdt[selector / 8] = uint64_t{0x89} << 40 | uint64_t{base & 0xffffff} << 16 |
                      uint64_t{base >> 24} << 56 | (sizeof(Tss) - 1);
}

void Make(uint16_t selector, Task* task, const char* code, Word root) {
  task->tss = {};
  task->tss.cr3 = root;
  task->tss.eip = reinterpret_cast<Word>(code);
  task->tss.eflags = 2;
  task->tss.esp = reinterpret_cast<Word>(task->stack + kStackBytes);
  task->tss.cs = 0x08;
  task->tss.ss = 0x10;
  task->tss.es = task->tss.ds = task->tss.fs = task->tss.gs = 0x23;
  task->tss.io_map = sizeof(Tss);
  Describe(selector, task);
}

bool IsBusy(uint16_t selector) { return (gdt[selector / 8] & kBusy) != 0; }

Word Flags() {
  Word flags;
  asm volatile("pushf; pop %0" : "=r"(flags));
  return flags;
}

// Of a task just entered.
void CheckEntered(const Task& task, uint16_t selector, uint32_t content) {
  uint16_t tr;
  asm volatile("str %0" : "=r"(tr));
  CheckEqual(tr, selector, "the task register");
  CheckEqual(ReadCr3(), task.tss.cr3, "CR3");
  CheckEqual(PhysicalAt(OwnPage()), content, "the task's own page");
  Check((ReadCr0() & kCr0Ts) != 0, "CR0.TS after a switch");
  asm volatile("clts");
  Check(IsBusy(selector), "the task is busy");
}

void TryCall() {
  const unsigned before = calls;
  CallTask(kCalled);
  CheckEqual(calls, before + 1, "a call of a task");
  Check(IsBusy(kMain) && !IsBusy(kCalled), "who is busy after a return");
  Check((Flags() & kFlagNt) == 0, "NT after a return");
  CheckEqual(called.tss.link, kMain, "the back link");
  CheckEqual(PhysicalAt(OwnPage()), 1, "the main task's own page");
  asm volatile("int %0" ::"i"(kTaskVector));
  CheckEqual(calls, before + 2, "an interrupt through a task gate");
}

void TryJump() {
  const unsigned before = jumps;
  JumpToTask(kJumped);
  CheckEqual(jumps, before + 1, "a jump to a task");
  Check(IsBusy(kMain) && !IsBusy(kJumped), "who is busy after jumps");
  CheckEqual(PhysicalAt(OwnPage()), 1, "the main task's own page");
}

void TryPageFault(uint32_t round) {
  const unsigned before = page_faults;
  main_space->Set(1, LatePage(), 0);
  Invlpg(LatePage());
  PhysicalAt(LatePage()) = round;
  CheckEqual(page_faults, before + 1, "a page fault through a task gate");
  CheckEqual(PhysicalAt(late_frame), round, "what was written after it");
}

// A page fault whose frame cannot be pushed, as the stack is not there, is a
// double fault; the page fault must not go through its own task then.
void TryDoubleFault() {
  const unsigned before = double_faults;
  asm volatile(
      "movl $1f, %0\n"
      "movl %%esp, %1\n"
      "movl %2, %%esp\n"
      "pushl $0\n"
      "ud2\n"
      "1:\n"
      : "=m"(resume_ip), "=m"(resume_stack)
      : "r"(NoPage())
      : "memory");
  CheckEqual(double_faults, before + 1, "a double fault through a task gate");
}

}  // namespace
}  // namespace guest

void OnCalled() {
  using namespace guest;
  CheckEntered(called, kCalled, 2);
  Check((Flags() & kFlagNt) != 0, "NT in a task that was called");
  Check(IsBusy(kMain), "the caller stays busy");
  ++calls;
}

void OnJumped() {
  using namespace guest;
  CheckEntered(jumped, kJumped, 3);
  Check((Flags() & kFlagNt) == 0, "NT in a task that was jumped to");
  Check(!IsBusy(kMain), "who jumped is not busy");
  ++jumps;
}

// For page faults and double faults, by the task that runs.
void OnFault(uint32_t) {
  using namespace guest;
  uint16_t tr;
  asm volatile("str %0" : "=r"(tr));
  if (tr == kFaulted) {
    CheckEntered(faulted, kFaulted, 4);
    CheckEqual(faulted.tss.link, kMain, "the back link of a fault");
    CheckEqual(ReadCr2(), LatePage(), "CR2");
    main_space->Map(LatePage(), late_frame, kAll);
    ++page_faults;
  } else {
    CheckEntered(doubled, kDouble, 5);
    CheckEqual(main_task.tss.esp, NoPage(), "the stack of the double fault");
    main_task.tss.eip = resume_ip;
    main_task.tss.esp = resume_stack;
    ++double_faults;
  }
}

namespace guest {

void GuestMain() {
  UsePaging();
  AddressSpace spaces[5];
  Task* const tasks[] = {&main_task, &called, &jumped, &faulted, &doubled};
  const uint16_t selectors[] = {kMain, kCalled, kJumped, kFaulted, kDouble};
  const char* const code[] = {nullptr, task_called, task_jumped, task_fault,
                              task_fault};
  for (unsigned i = 0; i < 5; ++i) {
    const Word frame = AllocateFrame();
    PhysicalAt(frame) = i + 1;
    spaces[i].Map(OwnPage(), frame, kAll);
    Make(selectors[i], tasks[i], code[i], spaces[i].root());
  }
  main_space = &spaces[0];
  late_frame = AllocateFrame();
  spaces[0].Use();
  asm volatile("ltr %w0" ::"r"(unsigned{kMain}));
  SetTaskGate(kTaskVector, kCalled);
  for (uint32_t round = 1; round <= kRounds; ++round) {
    TryCall();
    TryJump();
  }
  Print(calls, " calls, ", jumps, " jumps: right\n");
  // A double fault on the way to a handler of the interrupt descriptor's kind.
  SetTaskGate(kDoubleFault, kDouble);
  for (uint32_t round = 1; round <= kRounds; ++round) TryDoubleFault();
  Print(double_faults, " double faults: right\n");
  SetTaskGate(kPageFault, kFaulted);
  for (uint32_t round = 1; round <= kRounds; ++round) TryPageFault(round);
  Print(page_faults, " page faults: right\n");
}

}  // namespace guest
