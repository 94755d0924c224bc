// The way that images which test hypervisors go: the machine's size and CPUs by
// fw_cfg, the IDT at address 0, PICs masked, the local APIC switched off and on
// and programmed, interrupts and NMIs to itself, its timer, the start of other
// CPUs where there are none, interrupt lines raised by hand through the I/O
// APIC, and the test device's ports; all in long mode with tables of its own.

#include "runtime/address_space.h"
#include "runtime/cpu.h"
#include "runtime/frames.h"
#include "runtime/guest.h"
#include "runtime/interrupts.h"
#include "runtime/report.h"

#ifdef __x86_64__
#define STACK "rsp"
#else
#define STACK "esp"
#endif

namespace guest {
namespace {

// ---- fw_cfg, as QEMU specifies it ----
constexpr uint16_t kSelect = 0x510;
constexpr uint16_t kConfigData = 0x511;
constexpr uint16_t kMemoryKey = 3;
constexpr uint16_t kCpusKey = 5;

uint64_t Configured(uint16_t key, unsigned bytes) {
  asm volatile("outw %0, %1" ::"a"(key), "d"(kSelect));
  uint64_t value = 0;
  for (unsigned i = 0; i < bytes; ++i) {
    value |= uint64_t{In8(kConfigData)} << (8 * i);
  }
  return value;
}

void TryConfiguration() {
  const uint64_t memory = Configured(kMemoryKey, 8);
  CheckEqual(Configured(kCpusKey, 2), 1, "CPUs");
  CheckEqual(memory & 0xfffff, 0, "the memory's size");
  Check(memory >= 64u << 20, "the memory's size");
  CheckEqual(Configured(kMemoryKey, 8), memory, "the same, asked again");
  // Where a loader says more than firmware does, it is wrong.
  const uint32_t* info = MultibootInformation();
  constexpr unsigned kUpperMemory = 2;
  Check(info[kUpperMemory] <= memory / 1024, "the loader's memory");
  Print("configuration: right\n");
}

// ---- The local APIC (SDM vol. 3, chapter 11) ----
constexpr uint32_t kMsrApicBase = 0x1b;
constexpr uint64_t kApicEnabled = 1u << 11;
constexpr unsigned kId = 0x20, kVersion = 0x30, kPriority = 0x80, kEoi = 0xb0;
constexpr unsigned kSpurious = 0xf0, kRequests = 0x200;
constexpr unsigned kCommand = 0x300, kCommandHigh = 0x310, kTimer = 0x320;
constexpr unsigned kTimerCount = 0x380, kTimerNow = 0x390, kTimerDivide = 0x3e0;
constexpr uint32_t kSelf = 1u << 18, kAllButSelf = 3u << 18;
constexpr uint32_t kInit = 5u << 8 | 1u << 14, kStartUp = 6u << 8;
constexpr uint32_t kSendNmi = 4u << 8;
constexpr uint32_t kEveryCpu = 0xffu << 24;
constexpr uint32_t kPeriodic = 1u << 17;
constexpr unsigned kNmiVector = 2;

// Where this guest has mapped the devices.
Word ApicPage() { return TestBase(); }
Word IoApicPage() { return TestBase() + kPageBytes; }

uint32_t ReadApic(unsigned reg) {
  return *reinterpret_cast<volatile uint32_t*>(ApicPage() + reg);
}
void WriteApic(unsigned reg, uint32_t value) {
  *reinterpret_cast<volatile uint32_t*>(ApicPage() + reg) = value;
}

volatile unsigned seen[256];
volatile unsigned order[8];
volatile unsigned ordered = 0;

Handled OnInterrupt(InterruptFrame* frame) {
  const auto vector = static_cast<unsigned>(frame->vector);
  seen[vector] = seen[vector] + 1;
  if (ordered < 8) order[ordered] = vector;
  ordered = ordered + 1;
  WriteApic(kEoi, 0);
  return Handled::kDone;
}

void Forget() {
  for (volatile unsigned& count : seen) count = 0;
  ordered = 0;
}

// Room for an interrupt that is there to come.
void Open() { asm volatile("sti; nop; nop; cli" ::: "memory"); }

// QEMU's own CPUs do not get back what APIC_BASE.EN has taken from CPUID.
void SwitchApicOffAndOn() {
  WriteMsr(kMsrApicBase, ReadMsr(kMsrApicBase) & ~kApicEnabled);
  Check((ReadMsr(kMsrApicBase) & kApicEnabled) == 0, "APIC_BASE.EN");
  Check((ReadCpuid(1).edx & 1u << 9) == 0, "CPUID without the APIC");
  WriteMsr(kMsrApicBase, ReadMsr(kMsrApicBase) | kApicEnabled);
}

void EnableApic() {
  if (!IsPlainQemu()) SwitchApicOffAndOn();
  Check((ReadCpuid(1).edx & 1u << 9) != 0, "CPUID with the APIC");
  WriteApic(kSpurious, 0x1ff);
  CheckEqual(ReadApic(kSpurious), 0x1ff, "the spurious vector");
  CheckEqual(ReadApic(kVersion) & 0xff, 0x14, "the APIC's version");
  CheckEqual(ReadApic(kId), 0, "the APIC's number");
}

void TrySelfInterrupts() {
  Forget();
  WriteApic(kCommand, kSelf | 0x41);
  CheckEqual(ReadApic(kRequests + 0x10 * 2), 1u << 1, "IRR");
  CheckEqual(seen[0x41], 0, "interrupts are off");
  Open();
  CheckEqual(seen[0x41], 1, "an interrupt to itself");
  WriteApic(kCommandHigh, 0);
  WriteApic(kCommand, 0x42);
  WriteApic(kCommandHigh, kEveryCpu);
  WriteApic(kCommand, 0x42);  // one request: it is the same vector
  Open();
  CheckEqual(seen[0x42], 1, "an interrupt by number, and to all");
  // By priority; then held back.
  Forget();
  WriteApic(kCommand, kSelf | 0x20);
  WriteApic(kCommand, kSelf | 0x21);
  WriteApic(kCommand, kSelf | 0xe0);
  Open();
  CheckEqual(ordered, 3, "three interrupts");
  CheckEqual(order[0], 0xe0, "the first");
  CheckEqual(order[1], 0x21, "the second");
  CheckEqual(order[2], 0x20, "the third");
  Forget();
  WriteApic(kPriority, 0xf0);
  WriteApic(kCommand, kSelf | 0x20);
  WriteApic(kCommand, kSelf | 0x3e);
  Open();
  CheckEqual(ordered, 0, "nothing gets past the task priority");
  WriteApic(kPriority, 0x20);
  Open();
  CheckEqual(seen[0x3e], 1, "what is above it");
  CheckEqual(seen[0x20], 0, "what is not");
#ifdef __x86_64__
  Word cr8 = 0;
  asm volatile("mov %%cr8, %0" : "=r"(cr8));
  CheckEqual(cr8, 2, "CR8 is the task priority");
  asm volatile("mov %0, %%cr8" ::"r"(Word{0}));
  CheckEqual(ReadApic(kPriority), 0, "the task priority by CR8");
#else
  WriteApic(kPriority, 0);
#endif
  Open();
  CheckEqual(seen[0x20], 1, "what waited");
  Print("interrupts to itself: right\n");
}

// INIT and start-up for all others: there are none, and so nothing happens.
void TryOtherCpus() {
  Forget();
  WriteApic(kCommand, kAllButSelf | kInit);
  WriteApic(kCommand, kAllButSelf | kStartUp | 8);
  CheckEqual(ReadApic(kCommand) & 1u << 12, 0, "a command is not under way");
  Open();
  CheckEqual(ordered, 0, "nobody starts");
  Print("other CPUs: none\n");
}

// An NMI in the handler of another waits for its end, and not longer.
volatile unsigned nmis = 0;
volatile unsigned nested = 0;
Word nmi_frames[2];

Handled OnNmi(InterruptFrame* frame) {
  if (nmis < 2) nmi_frames[nmis] = reinterpret_cast<Word>(frame);
  nmis = nmis + 1;
  if (nmis == 1) {
    WriteApic(kCommandHigh, 0);
    WriteApic(kCommand, kSendNmi);
    WriteApic(kCommand, kSendNmi);
    nested = nmis;
  }
  return Handled::kDone;
}

// An NMI need not come with the very instruction that sends it.
void AwaitNmis(unsigned count) {
  for (unsigned i = 0; i < 100'000 && nmis < count; ++i) {
  }
}

void TryNmis() {
  SetHandler(kNmiVector, OnNmi);
  WriteApic(kCommandHigh, 0);
  // Interrupts are off, which does not matter.
  WriteApic(kCommand, kSendNmi);
  AwaitNmis(2);
  CheckEqual(nmis, 2, "an NMI, and one more of two sent by its handler");
  CheckEqual(nested, 1, "no NMI within the handler of one");
  CheckEqual(nmi_frames[1], nmi_frames[0], "the second after the first's IRET");
  WriteApic(kCommand, kSendNmi);
  AwaitNmis(3);
  CheckEqual(nmis, 3, "NMIs go on");
  Print("NMIs: right\n");
}

void TryTimer() {
  Forget();
  WriteApic(kTimerDivide, 0xb);  // by 1
  WriteApic(kTimer, 0xee);
  WriteApic(kTimerCount, 0x10000);
  while (seen[0xee] == 0) Open();
  CheckEqual(seen[0xee], 1, "the timer once");
  CheckEqual(ReadApic(kTimerNow), 0, "the count that is over");
  WriteApic(kTimer, 0xed | kPeriodic);
  WriteApic(kTimerCount, 1'000'000);
  while (seen[0xed] < 5) Halt();
  WriteApic(kTimerCount, 0);
  Open();
  Print("timer: right\n");
}

// ---- The I/O APIC (82093AA), and the test device ----
constexpr uint16_t kLines = 0x2000;
constexpr uint16_t kBytes = 0xe0;
constexpr uint32_t kLevel = 1u << 15;
constexpr uint32_t kRemoteIrr = 1u << 14;
constexpr uint32_t kMasked = 1u << 16;

void WriteIoApic(unsigned reg, uint32_t value) {
  *reinterpret_cast<volatile uint32_t*>(IoApicPage()) = reg;
  *reinterpret_cast<volatile uint32_t*>(IoApicPage() + 0x10) = value;
}
uint32_t ReadIoApic(unsigned reg) {
  *reinterpret_cast<volatile uint32_t*>(IoApicPage()) = reg;
  return *reinterpret_cast<volatile uint32_t*>(IoApicPage() + 0x10);
}
void Route(unsigned line, uint32_t entry) {
  WriteIoApic(0x11 + 2 * line, 0);
  WriteIoApic(0x10 + 2 * line, entry);
}
void Drive(unsigned line, uint8_t level) {
  Out8(static_cast<uint16_t>(kLines + line), level);
}

volatile bool lower_in_handler = false;
Handled OnLevel(InterruptFrame* frame) {
  const auto vector = static_cast<unsigned>(frame->vector);
  seen[vector] = seen[vector] + 1;
  if (lower_in_handler || seen[vector] == 2) Drive(14, 0);
  WriteApic(kEoi, 0);
  return Handled::kDone;
}

void TryLines() {
  Forget();
  Route(14, 0x77);
  Route(15, 0x66);
  Drive(15, 1);
  Drive(15, 0);
  Drive(14, 1);
  Drive(14, 0);
  Open();
  CheckEqual(ordered, 2, "two lines");
  CheckEqual(order[0], 0x77, "the higher vector first");
  SetHandler(0x82, OnLevel);
  Route(14, 0x82 | kLevel);
  lower_in_handler = true;
  Drive(14, 1);
  Open();
  CheckEqual(seen[0x82], 1, "a level that its handler ends");
  CheckEqual(ReadIoApic(0x10 + 28) & kRemoteIrr, 0, "remote IRR");
  seen[0x82] = 0;
  lower_in_handler = false;
  Drive(14, 1);
  Open();
  CheckEqual(seen[0x82], 2, "a level that stays interrupts again");
  Route(14, kMasked);
  Route(15, kMasked);
  Print("lines: right\n");
}

void TryPorts() {
  Out32(kBytes, 0x12345678);
  CheckEqual(In8(kBytes + 1), 0x56, "a byte of the four");
  uint32_t all = 0;
  asm volatile("inl %1, %0" : "=a"(all) : "Nd"(kBytes));
  CheckEqual(all, 0x12345678, "the four bytes");
  const char text[] = "abcdefgh";
  const char* from = text;
  Word count = sizeof(text) - 1;
  asm volatile("cld; rep outsb"
               : "+S"(from), "+c"(count)
               : "d"(kBytes)
               : "memory");
  CheckEqual(In8(kBytes), 'h', "the last byte of a string");
  char back[16] = {};
  char* to = back;
  count = sizeof(back);
  asm volatile("cld; rep insb"
               : "+D"(to), "+c"(count)
               : "d"(kBytes)
               : "memory");
  for (const char byte : back) CheckEqual(byte, 'h', "a string from a port");
  Print("ports: right\n");
}

// RFLAGS.TF: a trap after each instruction, those that a hypervisor executes
// included.
volatile unsigned steps = 0;
Handled OnStep(InterruptFrame*) {
  steps = steps + 1;
  return Handled::kDone;
}

void TrySteps() {
  SetHandler(1, OnStep);
  Word ax = 0;
  asm volatile(
      "pushf\n"
      "orl $0x100, (%%" STACK
      ")\n"
      "popf\n"
      "xor %%eax, %%eax\n"
      "cpuid\n"
      "mov $0x3fd, %%edx\n"
      "in %%dx, %%al\n"
      "mov $0xc0000080, %%ecx\n"
      "rdmsr\n"
      "mov %%cr0, %0\n"
      "mov %0, %%cr0\n"
      "pushf\n"
      "andl $~0x100, (%%" STACK
      ")\n"
      "popf\n"
      : "=&a"(ax)
      :
      : "ebx", "ecx", "edx", "memory", "cc");
  CheckEqual(steps, 11, "single steps");
  Print("single steps: right\n");
}

struct __attribute__((packed)) TablePointer {
  uint16_t limit;
  Word base;
};

// The IDT where such images have it: at address 0.
void MoveIdtToZero() {
  TablePointer pointer;
  asm volatile("sidt %0" : "=m"(pointer));
  Word to = 0;
  Word from = pointer.base;
  Word count = pointer.limit + Word{1};
  asm volatile("cld; rep movsb" : "+D"(to), "+S"(from), "+c"(count)::"memory");
  pointer.base = 0;
  asm volatile("lidt %0" ::"m"(pointer));
}

}  // namespace

void GuestMain() {
  UsePaging();
  AddressSpace space;
  space.Map(ApicPage(), static_cast<Word>(0xfee00000), kPresent | kWritable);
  space.Map(IoApicPage(), static_cast<Word>(0xfec00000), kPresent | kWritable);
  space.Use();
  MoveIdtToZero();
  Out8(0x21, 0xff);
  Out8(0xa1, 0xff);
  for (unsigned vector = 0x20; vector < 0x100; ++vector) {
    if (vector != kUserDone) SetHandler(vector, OnInterrupt);
  }
  TryConfiguration();
  EnableApic();
  TrySelfInterrupts();
  TryOtherCpus();
  TryNmis();
  TryTimer();
  TryLines();
  TryPorts();
  TrySteps();
}

}  // namespace guest
