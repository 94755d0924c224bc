// The system calls that move memory: mmap, munmap, mremap, brk, madvise.
//
// There is one address space, the identity map: a mapping is a run of free
// pages, and it is memory from the start. A mapping of 2 MiB or more is aligned
// to 2 MiB, so that large pages can map it.
//
// They return what the kernel would: an address, 0, or a negative errno.
//
// Thread safety: any CPU, with interrupts off: one spin lock guards it all.

#ifndef HYPERVISOR_SHIM_MEMORY_CALLS_H_
#define HYPERVISOR_SHIM_MEMORY_CALLS_H_

#include <cstdint>
#include <span>

#include "shadowmmu/address.h"

namespace hypervisor {

// Called once, at boot: what there is to hand out. The program break starts at
// the end of `image`.
void InitShimMemory(std::span<const shadowmmu::HvaRange> ram,
                    shadowmmu::HvaRange image);

// `flags` and `advice` are of <sys/mman.h>. Anonymous memory only.
int64_t MapCall(uint64_t address, uint64_t bytes, uint64_t flags);
int64_t UnmapCall(uint64_t address, uint64_t bytes);
int64_t RemapCall(uint64_t address, uint64_t old_bytes, uint64_t new_bytes);
int64_t BreakCall(uint64_t address);
int64_t AdviseCall(uint64_t address, uint64_t bytes, uint64_t advice);

// Memory that is there to be handed out, and how much of it is free, in bytes.
uint64_t TotalMemory();
uint64_t FreeMemory();

}  // namespace hypervisor

#endif  // HYPERVISOR_SHIM_MEMORY_CALLS_H_
