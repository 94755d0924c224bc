#include "runtime/processors.h"

#include "runtime/access.h"
#include "runtime/address_space.h"
#include "runtime/frames.h"
#include "runtime/interrupts.h"

extern "C" {
// start_cpu.S: what runs first, from a page below 1 MiB, and what it reads.
extern const char cpu_trampoline[];
extern const char cpu_trampoline_end[];
extern guest::Word cpu_start_cr0;
extern guest::Word cpu_start_cr3;
extern guest::Word cpu_start_cr4;
extern uint64_t cpu_start_efer;
extern guest::Word cpu_start_stack;

void* memcpy(void* to, const void* from, size_t bytes);
[[noreturn]] void CpuStarted();
}

namespace guest {
namespace {

constexpr Word kTrampoline = 0x8000;
constexpr size_t kStackBytes = 32768;

// The local APIC (APM vol. 2, 16.3), where every address space has it.
constexpr Word kEnd = 0xb0;
constexpr Word kSpurious = 0xf0;
constexpr Word kCommandLow = 0x300;
constexpr Word kCommandHigh = 0x310;
constexpr uint32_t kEnabled = 0x1ff;
constexpr uint32_t kAssert = 1u << 14;
constexpr uint32_t kNmi = 4u << 8;
constexpr uint32_t kInit = 5u << 8;
constexpr uint32_t kStartup = 6u << 8;
constexpr uint32_t kPending = 1u << 12;

alignas(16) char stacks[kMaxCpus][kStackBytes];
alignas(16) char interrupt_stacks[kMaxCpus][kStackBytes];

enum State : unsigned { kAbsent, kStarted, kDone };
unsigned states[kMaxCpus];
// Of the one that is being started.
unsigned starting = 0;
void (*starting_work)() = nullptr;

volatile uint32_t& Apic(Word reg) {
  return PhysicalAt<uint32_t>(kLocalApicPage + reg);
}

void Command(unsigned cpu, uint32_t command) {
  Apic(kCommandHigh) = cpu << 24;
  Apic(kCommandLow) = kAssert | command;
  WaitUntil([] { return (Apic(kCommandLow) & kPending) == 0; },
            "the local APIC sends");
}

}  // namespace

unsigned CpuCount() {
  constexpr uint16_t kSelector = 0x510;
  constexpr uint16_t kCpus = 5;
  asm volatile("outw %0, %1" ::"a"(kCpus), "Nd"(kSelector));
  const unsigned count = In8(kSelector + 1);
  return count < kMaxCpus ? count : kMaxCpus;
}

void StartCpu(unsigned cpu, void (*work)()) {
  Check(cpu > 0 && cpu < CpuCount() && states[cpu] == kAbsent,
        "a CPU that can be started");
  memcpy(reinterpret_cast<void*>(kTrampoline), cpu_trampoline,
         static_cast<size_t>(cpu_trampoline_end - cpu_trampoline));
  cpu_start_cr0 = ReadCr0();
  cpu_start_cr3 = ReadCr3();
  cpu_start_cr4 = ReadCr4();
  cpu_start_efer = Levels() > 2 ? ReadMsr(kMsrEfer) : 0;
  cpu_start_stack = reinterpret_cast<Word>(stacks[cpu] + kStackBytes);
  starting_work = work;
  Store(starting, cpu);
  // As firmware leaves them, the timer's vector is a double fault's.
  Out8(0x21, 0xff);
  Out8(0xa1, 0xff);
  Apic(kSpurious) = kEnabled;
  Command(cpu, kInit);
  // The manuals want 10 ms before the first one, and 200 us between the two.
  const uint64_t begin = ReadTsc();
  WaitUntil([&] { return ReadTsc() - begin > 1u << 25; }, "time passes");
  Command(cpu, kStartup | kTrampoline / kPageBytes);
  const uint64_t again = ReadTsc();
  WaitUntil(
      [&] {
        return Load(states[cpu]) != kAbsent || ReadTsc() - again > 1u << 21;
      },
      "time passes");
  if (Load(states[cpu]) == kAbsent) {
    Command(cpu, kStartup | kTrampoline / kPageBytes);
  }
  WaitUntil([&] { return Load(states[cpu]) != kAbsent; }, "a CPU starts");
}

void AwaitCpu(unsigned cpu) {
  WaitUntil([&] { return Load(states[cpu]) == kDone; }, "a CPU's work ends");
}

void SendInterrupt(unsigned cpu, uint8_t vector) { Command(cpu, vector); }
void SendNmi(unsigned cpu) { Command(cpu, kNmi); }
void EndOfInterrupt() { Apic(kEnd) = 0; }

}  // namespace guest

void CpuStarted() {
  using namespace guest;  // NOLINT: it has to have C's name
  const unsigned cpu = starting;
  LoadIdtOnCpu(cpu,
               reinterpret_cast<Word>(interrupt_stacks[cpu] + kStackBytes));
  CheckEqual(CpuNumber(), cpu, "the CPU's number, by its TSS");
  CheckEqual(ReadCpuid(1).ebx >> 24, cpu, "the CPU's number, by CPUID");
  CheckEqual(Apic(0x20) >> 24, cpu, "the CPU's number, by its local APIC");
  Apic(kSpurious) = kEnabled;
  void (*const work)() = starting_work;
  Store(states[cpu], unsigned{kStarted});
  work();
  Store(states[cpu], unsigned{kDone});
  while (true) asm volatile("cli; hlt");
}
