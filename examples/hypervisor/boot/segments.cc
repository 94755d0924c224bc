#include "boot/segments.h"

namespace hypervisor {
namespace {

constexpr uint16_t kTssSelector = 0x18;
constexpr uint64_t kAvailableTss = uint64_t{0x89} << 40;

// The operand of LGDT (APM vol. 2, 4.6.2).
struct [[gnu::packed]] GdtPointer {
  uint16_t limit;
  uint64_t base;
};

}  // namespace

void Segments::Load() {
  tss_.ist[kExceptionStack - 1] =
      reinterpret_cast<uintptr_t>(exception_stack_ + kStackBytes);
  tss_.ist[kInterruptStack - 1] =
      reinterpret_cast<uintptr_t>(interrupt_stack_ + kStackBytes);
  tss_.io_map = sizeof(tss_);

  // A system descriptor's base is in four places (APM vol. 2, 4.8.3).
  const auto base = reinterpret_cast<uintptr_t>(&tss_);
  gdt_[3] = (sizeof(tss_) - 1) | (base & 0xffffff) << 16 | kAvailableTss |
            ((base >> 24) & 0xff) << 56;
  gdt_[4] = base >> 32;

  const GdtPointer pointer = {.limit = sizeof(gdt_) - 1,
                              .base = reinterpret_cast<uintptr_t>(gdt_)};
  __asm__ volatile(
      "lgdt %0\n\t"
      "pushq %1\n\t"
      "leaq 1f(%%rip), %%rax\n\t"
      "pushq %%rax\n\t"
      "lretq\n"
      "1:\n\t"
      "movl %2, %%ds\n\t"
      "movl %2, %%es\n\t"
      "movl %2, %%ss\n\t"
      "ltr %w3"
      :
      : "m"(pointer), "i"(kCodeSelector), "r"(uint32_t{kDataSelector}),
        "r"(uint32_t{kTssSelector})
      : "rax", "memory");
}

}  // namespace hypervisor
