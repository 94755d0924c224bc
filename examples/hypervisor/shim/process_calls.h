// The system calls about the process, which is the machine: one process,
// numbered 1; its threads are in threads.h.
//
// Thread safety: any CPU, with interrupts off.

#ifndef HYPERVISOR_SHIM_PROCESS_CALLS_H_
#define HYPERVISOR_SHIM_PROCESS_CALLS_H_

#include <cstdint>

struct new_utsname;
struct rlimit64;
struct sysinfo;

namespace hypervisor {

inline constexpr int64_t kProcessId = 1;

int64_t ArchPrctlCall(uint64_t operation, uint64_t address);
int64_t GetAffinityCall(uint64_t bytes, uint64_t* mask);
int64_t ResourceLimitCall(uint64_t resource, rlimit64* old_limit);
int64_t RandomCall(unsigned char* bytes, uint64_t count);
int64_t UnameCall(new_utsname* name);
int64_t SystemInfoCall(struct sysinfo* info);

// A signal to oneself, which there is nobody to handle: the end.
[[noreturn]] void KillCall(uint64_t signal);

}  // namespace hypervisor

#endif  // HYPERVISOR_SHIM_PROCESS_CALLS_H_
