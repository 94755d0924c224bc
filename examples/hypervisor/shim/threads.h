// Threads: one a CPU. There is no scheduler: a thread runs on its CPU until it
// ends, and a program that wants more threads than there are CPUs is told
// EAGAIN.
//
//  1. A CPU without a thread halts, on a stack of its own (WaitForThreads).
//  2. A thread that ends has left its stack before anybody is told, and its CPU
//     can have another one by then: who joined it may start the next.
//  3. The thread on CPU i has number i + 1; the first is the process's.
//
// Thread safety: any CPU, with interrupts off.

#ifndef HYPERVISOR_SHIM_THREADS_H_
#define HYPERVISOR_SHIM_THREADS_H_

#include <cstddef>
#include <cstdint>

#include "shim/syscall.h"

namespace hypervisor {

inline constexpr size_t kIdleStackBytes = 16384;

// clone3: EAGAIN if every CPU has a thread; EINVAL for anything but a thread of
// this process.
int64_t CloneCall(const SyscallFrame& frame);

// exit, of a thread that is not the process's first.
[[noreturn]] void ExitThreadCall();

// sched_yield. Who calls it again and again waits for another CPU, which, where
// the machine is a virtual one, may wait for a processor: now and then the
// caller gives up its own for a moment.
void YieldCall();

// The number of the thread that calls.
int64_t ThreadId();

// Threads that have not ended.
uint32_t RunningThreads();

// What a CPU does from its start on. Called on the CPU's own stack.
[[noreturn]] void WaitForThreads();

}  // namespace hypervisor

#endif  // HYPERVISOR_SHIM_THREADS_H_
