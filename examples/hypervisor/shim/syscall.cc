#include "shim/syscall.h"

#include <asm/errno.h>
#include <asm/unistd.h>

#include <atomic>

#include "boot/console.h"
#include "boot/cpu.h"
#include "boot/exit.h"
#include "boot/per_cpu.h"
#include "shim/file_calls.h"
#include "shim/futex.h"
#include "shim/memory_calls.h"
#include "shim/process_calls.h"
#include "shim/threads.h"
#include "shim/time_calls.h"

// From syscall_entry.S.
extern "C" void SyscallEntry();

namespace hypervisor {
namespace {

template <typename T>
T* Pointer(uint64_t argument) {
  return reinterpret_cast<T*>(argument);
}

int64_t Unknown(const SyscallFrame& frame) {
  constexpr uint64_t kNumbers = 512;
  constinit static std::atomic<bool> said[kNumbers] = {};
  if (frame.number < kNumbers && said[frame.number].exchange(true)) {
    return -ENOSYS;
  }
  ConsoleWrite("hypervisor: system call ");
  ConsoleWriteDecimal(frame.number);
  ConsoleWrite(" is not there (called before ");
  ConsoleWriteHex(frame.rip);
  ConsoleWrite(")\n");
  return -ENOSYS;
}

// Each of the following answers some calls, and hands the rest on.

int64_t TrivialCall(const SyscallFrame& frame) {
  switch (frame.number) {
    case __NR_mprotect:  // what is mapped is not by the page (identity_map.h)
    case __NR_rt_sigaction:
    case __NR_rt_sigprocmask:
    case __NR_sigaltstack:
    case __NR_sched_getparam:
    case __NR_sched_getscheduler:
    case __NR_set_robust_list:
    case __NR_close:
    case __NR_read:  // the end of the file
      return 0;
    case __NR_sched_yield:
      YieldCall();
      return 0;
    case __NR_getpid:
      return kProcessId;
    case __NR_gettid:
    case __NR_set_tid_address:
      return ThreadId();
    case __NR_lseek:
      return -ESPIPE;
    case __NR_openat:
    case __NR_open:
    case __NR_access:
    case __NR_readlink:
    case __NR_readlinkat:
      return -ENOENT;
    case __NR_clone:
      return -EAGAIN;
    case __NR_rseq:
    case __NR_membarrier:
      return -ENOSYS;
    default:
      return Unknown(frame);
  }
}

int64_t ProcessCall(const SyscallFrame& frame) {
  const uint64_t* const a = frame.arguments;
  switch (frame.number) {
    case __NR_arch_prctl:
      return ArchPrctlCall(a[0], a[1]);
    case __NR_sched_getaffinity:
      return GetAffinityCall(a[1], Pointer<uint64_t>(a[2]));
    case __NR_prlimit64:
      return ResourceLimitCall(a[1], Pointer<rlimit64>(a[3]));
    case __NR_getrandom:
      return RandomCall(Pointer<unsigned char>(a[0]), a[1]);
    case __NR_uname:
      return UnameCall(Pointer<new_utsname>(a[0]));
    case __NR_sysinfo:
      return SystemInfoCall(Pointer<struct sysinfo>(a[0]));
    case __NR_tgkill:
      KillCall(a[2]);
    case __NR_clone3:
      return CloneCall(frame);
    case __NR_exit:
      if (CpuIndex() != 0) ExitThreadCall();
      [[fallthrough]];
    case __NR_exit_group:
      ExitMachine(static_cast<unsigned>(a[0]));
    default:
      return TrivialCall(frame);
  }
}

int64_t TimeCall(const SyscallFrame& frame) {
  const uint64_t* const a = frame.arguments;
  switch (frame.number) {
    case __NR_clock_gettime:
      return ClockGetTimeCall(Pointer<__kernel_timespec>(a[1]));
    case __NR_gettimeofday:
      return GetTimeOfDayCall(Pointer<__kernel_old_timeval>(a[0]));
    case __NR_clock_getres:
      return ClockGetResolutionCall(Pointer<__kernel_timespec>(a[1]));
    case __NR_clock_nanosleep:
      return SleepCall(a[1], Pointer<const __kernel_timespec>(a[2]));
    case __NR_nanosleep:
      return SleepCall(0, Pointer<const __kernel_timespec>(a[0]));
    case __NR_futex:
      return FutexCall(frame);
    default:
      return ProcessCall(frame);
  }
}

int64_t FileCall(const SyscallFrame& frame) {
  const uint64_t* const a = frame.arguments;
  switch (frame.number) {
    case __NR_write:
      return WriteCall(a[0], Pointer<const char>(a[1]), a[2]);
    case __NR_writev:
      return WriteVectorCall(a[0], Pointer<const IoPiece>(a[1]), a[2]);
    case __NR_fstat:
      return StatCall(a[0], Pointer<struct stat>(a[1]));
    case __NR_newfstatat:
      // Of a file that is open when the path is empty; there is no other.
      if (*Pointer<const char>(a[1]) != 0) return -ENOENT;
      return StatCall(a[0], Pointer<struct stat>(a[2]));
    case __NR_ioctl:
      return IoControlCall(a[0], a[1], Pointer<void>(a[2]));
    default:
      return TimeCall(frame);
  }
}

int64_t MemoryCall(const SyscallFrame& frame) {
  const uint64_t* const a = frame.arguments;
  switch (frame.number) {
    case __NR_mmap:
      return MapCall(a[0], a[1], a[3]);
    case __NR_munmap:
      return UnmapCall(a[0], a[1]);
    case __NR_mremap:
      return RemapCall(a[0], a[1], a[2]);
    case __NR_brk:
      return BreakCall(a[0]);
    case __NR_madvise:
      return AdviseCall(a[0], a[1], a[2]);
    default:
      return FileCall(frame);
  }
}

}  // namespace

void InstallSyscalls() {
  constexpr uint32_t kMsrStar = 0xc0000081;
  constexpr uint32_t kMsrLstar = 0xc0000082;
  constexpr uint32_t kMsrSfmask = 0xc0000084;
  // Off in a system call: IF, and what C++ code must not find on: TF, DF, AC.
  constexpr uint64_t kMask = 1u << 8 | 1u << 9 | 1u << 10 | 1u << 18;
  WriteMsr(kMsrStar, uint64_t{kCodeSelector} << 32);
  WriteMsr(kMsrLstar, reinterpret_cast<uintptr_t>(&SyscallEntry));
  WriteMsr(kMsrSfmask, kMask);
}

}  // namespace hypervisor

extern "C" int64_t HandleSyscall(const hypervisor::SyscallFrame* frame) {
  return hypervisor::MemoryCall(*frame);
}
