#include "runtime/interrupts.h"

#include "runtime/guard.h"
#include "runtime/report.h"

extern "C" {
extern char interrupt_stack_top[];
extern const char* const interrupt_stubs;
extern uint64_t gdt[];
extern guest::Word guard_stack;

[[noreturn]] void GuardEscape();
void HandleInterrupt(guest::InterruptFrame* frame);
}

namespace guest {

Fault last_fault;

namespace {

constexpr unsigned kVectors = 256;
constexpr unsigned kStubBytes = 16;
constexpr uint16_t kKernelCode = 0x08;
constexpr uint16_t kTssSelector = 0x28;
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
Tss tss;
Handler handlers[kVectors];

void LoadTss() {
#ifdef __x86_64__
  tss.rsp0 = reinterpret_cast<Word>(interrupt_stack_top);
#else
  tss.esp0 = reinterpret_cast<Word>(interrupt_stack_top);
  tss.ss0 = 0x10;
#endif
  const uint64_t base = reinterpret_cast<Word>(&tss);
  // Present, an available TSS of 32 bits or, in long mode, 64.
  gdt[kTssSelector / 8] = uint64_t{0x89} << 40 | (base & 0xffffff) << 16 |
                          (base >> 24 & 0xff) << 56 | (sizeof(tss) - 1);
  gdt[kTssSelector / 8 + 1] = 0;
  asm volatile("ltr %w0" ::"r"(unsigned{kTssSelector}));
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
  const TablePointer pointer = {sizeof(idt) - 1, reinterpret_cast<Word>(idt)};
  asm volatile("lidt %0" ::"m"(pointer));
  LoadTss();
}

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
  if (guard_stack == 0) {
    Print("FAILED: vector ", vector, ", error code ", Hex(frame->error_code),
          ", cr2 ", Hex(cr2), ", at ", Hex(frame->ip), "\n");
    Exit(2);
  }
  last_fault = {.vector = vector,
                .error_code = frame->error_code,
                .cr2 = cr2,
                .ax = frame->ax,
                .ip = frame->ip};
  GuardEscape();
}
