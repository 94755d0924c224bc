// What system calls and interrupts must leave as it is.
//
// Thread safety: one thread.

#include <cstdint>

#include "boot/apic_timer.h"
#include "boot/tsc_clock.h"
#include "tests/boot_selftest/selftest.h"

namespace hypervisor {
namespace {

constexpr uint64_t kMillisecond = 1000000;

// Fills the red zone and an SSE register, does `what`, and looks.
#define SURVIVES(what)                                         \
  [] {                                                         \
    uint64_t zone = 0;                                         \
    uint64_t sse = 0;                                          \
    __asm__ volatile(                                          \
        "lea -256(%%rsp), %%rsp\n\t"                           \
        "movq $0x1234567, %%rbx\n\t"                           \
        "movq %%rbx, -8(%%rsp)\n\t"                            \
        "movq %%rbx, -128(%%rsp)\n\t"                          \
        "movq %%rbx, %%xmm5\n\t" what                          \
        "\n\t"                                                 \
        "movq -8(%%rsp), %0\n\t"                               \
        "andq -128(%%rsp), %0\n\t"                             \
        "movq %%xmm5, %1\n\t"                                  \
        "lea 256(%%rsp), %%rsp"                                \
        : "=&r"(zone), "=&r"(sse)                              \
        :                                                      \
        : "rax", "rbx", "rcx", "r11", "xmm5", "cc", "memory"); \
    return zone == 0x1234567 && sse == 0x1234567;              \
  }()

void TestStateSurvives() {
  const bool over_call = SURVIVES("mov $39, %%eax\n\tsyscall");  // getpid
  Expect(over_call, "red zone and SSE state live over a system call");
  const uint64_t before = TimerTicks();
  const uint64_t start = MonotonicNanoseconds();
  ArmTimer(0);
  bool over_interrupt = true;
  while (TimerTicks() == before &&
         MonotonicNanoseconds() < start + 1000 * kMillisecond) {
    over_interrupt = SURVIVES("sti\n\tnop\n\tcli") && over_interrupt;
  }
  Expect(TimerTicks() == before + 1, "the interrupt came");
  Expect(over_interrupt, "red zone and SSE state live over an interrupt");
}

}  // namespace

void TestSurvival() { TestStateSurvives(); }

}  // namespace hypervisor
