// What interrupts the hypervisor: its exceptions, which end it with a report,
// and the interrupts that it lets in.
//
// Thread safety: runs on the CPU that was interrupted, with interrupts off, and
// takes no lock but the console's, which is had in bounded time.

#ifndef HYPERVISOR_BOOT_TRAP_H_
#define HYPERVISOR_BOOT_TRAP_H_

#include <cstdint>

namespace hypervisor {

inline constexpr uint8_t kTimerVector = 0x40;
// From another CPU, or itself (processors.h): wakes, and does nothing else.
inline constexpr uint8_t kWakeVector = 0x41;
// Of the local APIC; the low four bits must be ones on old ones.
inline constexpr uint8_t kSpuriousVector = 0xff;
// The legacy PICs', all of whose lines are masked.
inline constexpr uint8_t kPicVectors = 0x20;

// What trap_stubs.S leaves on the handler's stack, lowest address first.
struct TrapFrame {
  uint64_t r15, r14, r13, r12, r11, r10, r9, r8;
  uint64_t rdi, rsi, rbp, rbx, rdx, rcx, rax;
  uint64_t vector;
  uint64_t error_code;
  uint64_t rip, cs, rflags, rsp, ss;
};
static_assert(sizeof(TrapFrame) == 22 * 8);

}  // namespace hypervisor

// Called by trap_stubs.S.
extern "C" void HandleTrap(const hypervisor::TrapFrame* frame);

#endif  // HYPERVISOR_BOOT_TRAP_H_
