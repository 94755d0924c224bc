// The SYSCALL instruction, as the C library uses it: from ring 0 to ring 0.
//
// The numbers, arguments and errors are Linux's on x86-64, the calls those that
// glibc, libstdc++, Abseil and this program make. One that is not known here is
// said on the console, once, and fails with ENOSYS.
//
//  1. System calls run with interrupts off, but for sleeping and waiting.
//  2. They use general registers only: the caller's SSE state lives on.
//  3. They run on the caller's stack, below its red zone: in ring 0 it is as
//     good as any other.
//
// Thread safety: any CPU; each room guards what it keeps.

#ifndef HYPERVISOR_SHIM_SYSCALL_H_
#define HYPERVISOR_SHIM_SYSCALL_H_

#include <cstdint>

namespace hypervisor {

// What syscall_entry.S leaves on the stack, lowest address first.
struct SyscallFrame {
  uint64_t number;
  uint64_t arguments[6];
  uint64_t rip;  // where the call returns to
  uint64_t rflags;
};
static_assert(sizeof(SyscallFrame) == 9 * 8);

// Called once a CPU: makes SYSCALL enter here. EFER.SCE is set already.
void InstallSyscalls();

}  // namespace hypervisor

// Called by syscall_entry.S; gives what goes to rax.
extern "C" int64_t HandleSyscall(const hypervisor::SyscallFrame* frame);

#endif  // HYPERVISOR_SHIM_SYSCALL_H_
