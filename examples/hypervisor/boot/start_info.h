// What the loader hands over: the start info of Xen's x86/HVM direct boot ABI
// ("PVH"; public/arch-x86/hvm/start_info.h), layout only.
//
// Thread safety: plain data.

#ifndef HYPERVISOR_BOOT_START_INFO_H_
#define HYPERVISOR_BOOT_START_INFO_H_

#include <cstddef>
#include <cstdint>

namespace hypervisor {

struct StartInfo {
  static constexpr uint32_t kMagic = 0x336ec578;
  // The first version that has the memory map.
  static constexpr uint32_t kVersionWithMemoryMap = 1;

  uint32_t magic;
  uint32_t version;
  uint32_t flags;
  uint32_t module_count;
  uint64_t modules;       // address of StartInfoModule[module_count]
  uint64_t command_line;  // address of a string that ends with 0, or 0
  uint64_t rsdp;
  uint64_t memory_map;  // address of StartInfoMemory[memory_map_count]
  uint32_t memory_map_count;
  uint32_t reserved;
};
static_assert(sizeof(StartInfo) == 56);
static_assert(offsetof(StartInfo, modules) == 16);
static_assert(offsetof(StartInfo, memory_map) == 40);

struct StartInfoModule {
  uint64_t address;
  uint64_t bytes;
  uint64_t command_line;
  uint64_t reserved;
};
static_assert(sizeof(StartInfoModule) == 32);

struct StartInfoMemory {
  static constexpr uint32_t kRam = 1;  // as in ACPI's E820 types

  uint64_t address;
  uint64_t bytes;
  uint32_t type;
  uint32_t reserved;
};
static_assert(sizeof(StartInfoMemory) == 24);

}  // namespace hypervisor

#endif  // HYPERVISOR_BOOT_START_INFO_H_
