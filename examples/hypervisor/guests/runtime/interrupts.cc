#include "runtime/interrupts.h"

#include "runtime/guard.h"
#include "runtime/processors.h"
#include "runtime/report.h"

extern "C" {
extern char interrupt_stack_top[];
extern const char* const interrupt_stubs;
extern uint64_t gdt[];
// Of each CPU; 0: nothing is guarded.
extern uint64_t guard_stacks[];

[[noreturn]] void GuardEscape();
void HandleInterrupt(guest::InterruptFrame* frame);
}

namespace guest {

namespace {

constexpr unsigned kVectors = 256;
constexpr unsigned kStubBytes = 16;
constexpr uint16_t kKernelCode = 0x08;
constexpr uint16_t kTssSelector = 0x28;  // of CPU 0
constexpr uint16_t kTssSelectorStride = 0x10;
constexpr uint8_t kInterruptGate = 0x8e;
constexpr uint8_t kUserInterruptGate = 0xee;
constexpr uint8_t kTaskGate = 0x85;

struct Gate {
  uint16_t offset_low;
  uint16_t selector;
  uint8_t ist;
  uint8_t type;
  uint16_t offset_high;
#ifdef __x86_64__
  uint32_t offset_top;
  uint32_t reserved;
#endif
};

struct __attribute__((packed)) TablePointer {
  uint16_t limit;
  Word base;
};

// The TSS of the guest's own task; of what is in it, only the stack of ring 0
// counts here.
#ifdef __x86_64__
struct __attribute__((packed)) Tss {
  uint32_t reserved;
  uint64_t rsp0;
  uint8_t more[92];
};
static_assert(sizeof(Tss) == 104);
#else
struct Tss {
  uint32_t link;
  uint32_t esp0;
  uint32_t ss0;
  uint32_t more[23];
};
static_assert(sizeof(Tss) == 104);
#endif

Gate idt[kVectors];
Tss tss[kMaxCpus];
Fault last_faults[kMaxCpus];
// Another CPU than the first has been started.
bool more_cpus = false;
Handler handlers[kVectors];

void LoadTss(unsigned cpu, Word interrupt_stack) {
#ifdef __x86_64__
  tss[cpu].rsp0 = interrupt_stack;
#else
  tss[cpu].esp0 = interrupt_stack;
  tss[cpu].ss0 = 0x10;
#endif
  const uint64_t base = reinterpret_cast<Word>(&tss[cpu]);
  const unsigned selector = kTssSelector + cpu * kTssSelectorStride;
  // Present, an available TSS of 32 bits or, in long mode, 64.
  gdt[selector / 8] = uint64_t{0x89} << 40 | (base & 0xffffff) << 16 |
                      (base >> 24 & 0xff) << 56 | (sizeof(tss[cpu]) - 1);
  gdt[selector / 8 + 1] = 0;
  asm volatile("ltr %w0" ::"r"(selector));
}

void UseIdt() {
  const TablePointer pointer = {sizeof(idt) - 1, reinterpret_cast<Word>(idt)};
  asm volatile("lidt %0" ::"m"(pointer));
}

}  // namespace

void LoadIdt() {
  for (unsigned vector = 0; vector < kVectors; ++vector) {
    const Word stub =
        reinterpret_cast<Word>(interrupt_stubs) + vector * kStubBytes;
    Gate& gate = idt[vector];
    gate.offset_low = static_cast<uint16_t>(stub);
    gate.offset_high = static_cast<uint16_t>(stub >> 16);
    gate.selector = kKernelCode;
    gate.type = vector == kUserDone ? kUserInterruptGate : kInterruptGate;
  }
  UseIdt();
  LoadTss(0, reinterpret_cast<Word>(interrupt_stack_top));
}

void LoadIdtOnCpu(unsigned cpu, Word interrupt_stack) {
  UseIdt();
  LoadTss(cpu, interrupt_stack);
  Store(more_cpus, true);
}

Fault& LastFault() { return last_faults[CpuNumber()]; }

void SetHandler(unsigned vector, Handler handler) {
  handlers[vector] = handler;
}

void SetTaskGate(unsigned vector, uint16_t selector) {
  idt[vector].selector = selector;
  idt[vector].type = kTaskGate;
}

}  // namespace guest

void HandleInterrupt(guest::InterruptFrame* frame) {
  using namespace guest;
  const auto vector = static_cast<unsigned>(frame->vector);
  if (handlers[vector] != nullptr &&
      handlers[vector](frame) == Handled::kDone) {
    return;
  }
  const Word cr2 = vector == kPageFault ? ReadCr2() : 0;
  if (guard_stacks[CpuNumber()] == 0) {
    Print("FAILED: CPU ", CpuNumber(), ", vector ", vector, ", error code ",
          Hex(frame->error_code), ", cr2 ", Hex(cr2), ", at ", Hex(frame->ip),
          "\n");
    Exit(2);
  }
  LastFault() = {.vector = vector,
                 .error_code = frame->error_code,
                 .cr2 = cr2,
                 .ax = frame->ax,
                 .ip = frame->ip};
  GuardEscape();
}

unsigned guest::CpuNumber() {
  if (!Load(more_cpus)) return 0;
  unsigned selector = 0;
  asm volatile("str %0" : "=r"(selector));
  return (selector - kTssSelector) / kTssSelectorStride;
}
