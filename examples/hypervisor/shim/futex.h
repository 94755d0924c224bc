// The system call futex: to wait until another CPU's thread says that a word
// has changed.
//
//  1. A waiter looks at the word, and enters the list of those who wait, under
//     the lock that whoever wakes takes: no wake-up comes in between.
//  2. A waiter halts. Whoever wakes it says so in memory first, and interrupts
//     it then; interrupts are off but for the HLT, so that none is lost.
//  3. Who has waited longest is woken first.
//  4. When every thread waits, and none of them for a time, nothing will ever
//     happen again: that ends the hypervisor with a report.
//
// Thread safety: any CPU, with interrupts off on entry; waiting lets them in.

#ifndef HYPERVISOR_SHIM_FUTEX_H_
#define HYPERVISOR_SHIM_FUTEX_H_

#include <cstdint>

#include "shim/syscall.h"

namespace hypervisor {

int64_t FutexCall(const SyscallFrame& frame);

// Wakes all who wait for a change of `word`.
void WakeWaiters(const uint32_t* word);

// Rule 4, when a thread has ended.
void CheckForDeadlock();

}  // namespace hypervisor

#endif  // HYPERVISOR_SHIM_FUTEX_H_
