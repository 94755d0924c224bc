// Interrupts and exceptions of a guest.
//
// Where a vector has a handler, that is called, and the guest goes on if it
// returns kDone. Otherwise, within Guarded (guard.h), the guarded code ends,
// and the Fault says why; outside, the guest has failed.

#ifndef HYPERVISOR_GUESTS_RUNTIME_INTERRUPTS_H_
#define HYPERVISOR_GUESTS_RUNTIME_INTERRUPTS_H_

#include <stdint.h>

#include "runtime/cpu.h"

namespace guest {

inline constexpr unsigned kDoubleFault = 8;
inline constexpr unsigned kGeneralProtection = 13;
inline constexpr unsigned kPageFault = 14;
// How user mode comes back.
inline constexpr unsigned kUserDone = 0x80;

// What the stubs push; fields of the CPU's come last.
struct InterruptFrame {
#ifdef __x86_64__
  Word r15, r14, r13, r12, r11, r10, r9, r8;
  Word di, si, bp, bx, dx, cx, ax;
#else
  Word di, si, bp, unused_sp, bx, dx, cx, ax;
#endif
  Word vector;
  Word error_code;
  Word ip;
  Word cs;
  Word flags;
};

enum class Handled : uint8_t { kDone, kNot };
using Handler = Handled (*)(InterruptFrame*);

// Makes the IDT, and a TSS with a stack for interrupts of user mode.
void LoadIdt();
// The same IDT, and a TSS with that stack, on another CPU (processors.h).
void LoadIdtOnCpu(unsigned cpu, Word interrupt_stack);
// 0 is the CPU that boots. Known by the TSS that is loaded, once another CPU
// has been started.
extern "C" unsigned CpuNumber();
// nullptr: none.
void SetHandler(unsigned vector, Handler handler);
// An IDT entry of 8 bytes as a task gate; 32-bit guests only.
void SetTaskGate(unsigned vector, uint16_t selector);

}  // namespace guest

#endif  // HYPERVISOR_GUESTS_RUNTIME_INTERRUPTS_H_
