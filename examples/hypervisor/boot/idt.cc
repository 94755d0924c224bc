#include "boot/idt.h"

#include <cstdint>

#include "boot/segments.h"

// From trap_stubs.S.
extern "C" const char trap_stubs[256][16];

namespace hypervisor {
namespace {

constexpr unsigned kVectors = 256;
constexpr unsigned kExceptions = 32;
constexpr uint8_t kInterruptGate = 0x8e;  // present, ring 0; clears RFLAGS.IF

// APM vol. 2, 4.8.4.
struct Gate {
  uint16_t offset_low;
  uint16_t selector;
  uint8_t stack;  // of the interrupt stack table
  uint8_t type;
  uint16_t offset_middle;
  uint32_t offset_high;
  uint32_t reserved;
};
static_assert(sizeof(Gate) == 16);

constinit Gate idt[kVectors] = {};

// The operand of LIDT (APM vol. 2, 4.6.2).
struct [[gnu::packed]] IdtPointer {
  uint16_t limit;
  uint64_t base;
};

}  // namespace

void InitIdt() {
  for (unsigned vector = 0; vector < kVectors; ++vector) {
    const auto stub = reinterpret_cast<uintptr_t>(trap_stubs[vector]);
    Gate& gate = idt[vector];
    gate.offset_low = static_cast<uint16_t>(stub);
    gate.offset_middle = static_cast<uint16_t>(stub >> 16);
    gate.offset_high = static_cast<uint32_t>(stub >> 32);
    gate.selector = kCodeSelector;
    gate.stack = vector < kExceptions ? kExceptionStack : kInterruptStack;
    gate.type = kInterruptGate;
  }
}

void LoadIdt() {
  const IdtPointer pointer = {.limit = sizeof(idt) - 1,
                              .base = reinterpret_cast<uintptr_t>(idt)};
  __asm__ volatile("lidt %0" : : "m"(pointer));
}

}  // namespace hypervisor
