#include "shim/process_calls.h"

#include <asm/errno.h>
#include <asm/prctl.h>
#include <asm/signal.h>
#include <linux/resource.h>
#include <linux/sysinfo.h>
#include <linux/utsname.h>

#include "boot/console.h"
#include "boot/cpu.h"
#include "boot/exit.h"
#include "boot/freestanding.h"
#include "boot/initial_stack.h"
#include "boot/processors.h"
#include "boot/random.h"
#include "boot/tsc_clock.h"
#include "shim/memory_calls.h"

namespace hypervisor {

int64_t ArchPrctlCall(uint64_t operation, uint64_t address) {
  constexpr uint32_t kMsrFsBase = 0xc0000100;
  if (operation != ARCH_SET_FS) return -EINVAL;
  WriteMsr(kMsrFsBase, address);
  return 0;
}

int64_t GetAffinityCall(uint64_t bytes, uint64_t* mask) {
  if (bytes < sizeof(*mask)) return -EINVAL;
  *mask = (uint64_t{1} << CpuCount()) - 1;
  return sizeof(*mask);
}

int64_t ResourceLimitCall(uint64_t resource, rlimit64* old_limit) {
  if (old_limit == nullptr) return 0;
  const uint64_t limit =
      resource == RLIMIT_STACK ? kMainStackBytes : RLIM64_INFINITY;
  old_limit->rlim_cur = limit;
  old_limit->rlim_max = limit;
  return 0;
}

int64_t RandomCall(unsigned char* bytes, uint64_t count) {
  for (uint64_t i = 0; i < count; ++i) {
    bytes[i] = static_cast<unsigned char>(NextRandom());
  }
  return static_cast<int64_t>(count);
}

int64_t UnameCall(new_utsname* name) {
  ZeroBytes(name, sizeof(*name));
  CopyBytes(name->sysname, "Linux", 5);
  // glibc asks for 3.2.0 at least.
  CopyBytes(name->release, "6.1.0", 5);
  CopyBytes(name->machine, "x86_64", 6);
  return 0;
}

int64_t SystemInfoCall(struct sysinfo* info) {
  ZeroBytes(info, sizeof(*info));
  info->uptime =
      static_cast<__kernel_long_t>(MonotonicNanoseconds() / 1000000000);
  info->totalram = TotalMemory();
  info->freeram = FreeMemory();
  info->procs = 1;
  info->mem_unit = 1;
  return 0;
}

void KillCall(uint64_t signal) {
  ConsoleWrite("hypervisor: killed by signal ");
  ConsoleWriteDecimal(signal);
  ConsoleWrite("\n");
  ExitMachine(signal == SIGABRT ? kExitAborted : kExitImpossible);
}

}  // namespace hypervisor
