// The RAM that the loader says is there, less what is in use.
//
//  1. Every range is whole 4 KiB pages, in [1 MiB, 4 GiB), disjoint from the
//     others, from the hypervisor's image and from the module. (What lies below
//     1 MiB is left alone: firmware tables, and the first code of other CPUs.)
//  2. The shim's mmap and brk hand this memory out: nobody else may.
//
// Thread safety: constant after boot.

#ifndef HYPERVISOR_BOOT_MEMORY_MAP_H_
#define HYPERVISOR_BOOT_MEMORY_MAP_H_

#include <span>

#include "boot/start_info.h"
#include "shadowmmu/address.h"

namespace hypervisor {

// Called once, at boot, after InitModule.
void InitMemoryMap(const StartInfo& info);

std::span<const shadowmmu::HvaRange> UsableRam();

// The hypervisor's image, its zeroed data and main stack included.
shadowmmu::HvaRange ImageRange();

}  // namespace hypervisor

#endif  // HYPERVISOR_BOOT_MEMORY_MAP_H_
