// What a Multiboot loader tells an image: the information structure, and what
// it points to (Multiboot Specification 0.6.96, 3.3).
//
// Thread safety: none; the memory's.

#ifndef HYPERVISOR_LOADERS_MULTIBOOT_INFO_H_
#define HYPERVISOR_LOADERS_MULTIBOOT_INFO_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "loaders/guest_image.h"
#include "loaders/guest_memory.h"
#include "loaders/placement.h"
#include "shadowmmu/address.h"

namespace hypervisor {

// Up to the boot loader's name; what would follow is announced by flags that
// stay zero.
struct MultibootInfo {
  static constexpr uint32_t kMemory = 1u << 0;
  static constexpr uint32_t kCommandLine = 1u << 2;
  static constexpr uint32_t kModules = 1u << 3;
  static constexpr uint32_t kMemoryMap = 1u << 6;
  static constexpr uint32_t kLoaderName = 1u << 9;

  uint32_t flags = 0;
  // In KiB, from 0 and from 1 MiB on.
  uint32_t memory_lower = 0;
  uint32_t memory_upper = 0;
  uint32_t boot_device = 0;
  uint32_t command_line = 0;
  uint32_t modules = 0;
  uint32_t modules_address = 0;
  uint32_t symbols[4] = {};
  uint32_t memory_map_bytes = 0;
  uint32_t memory_map_address = 0;
  uint32_t drives_bytes = 0;
  uint32_t drives_address = 0;
  uint32_t config_table = 0;
  uint32_t loader_name = 0;
  uint32_t more[13] = {};
};
static_assert(sizeof(MultibootInfo) == 120);

struct MultibootModule {
  uint32_t begin = 0;
  uint32_t end = 0;
  uint32_t text = 0;
  uint32_t reserved = 0;
};
static_assert(sizeof(MultibootModule) == 16);

struct MultibootMapEntry {
  // Of what follows it.
  uint32_t size = 20;
  uint32_t base_low = 0;
  uint32_t base_high = 0;
  uint32_t bytes_low = 0;
  uint32_t bytes_high = 0;
  uint32_t type = 0;
};
static_assert(sizeof(MultibootMapEntry) == 24);

// Writes the module and the information for an image that ends at `end`, as
// multiboot.h says, and returns where the latter is. OutOfRange without room.
absl::StatusOr<shadowmmu::Gpa> WriteMultibootInfo(const GuestImage& image,
                                                  shadowmmu::Gpa end,
                                                  const GuestMemoryView& memory,
                                                  Placement* placement);

}  // namespace hypervisor

#endif  // HYPERVISOR_LOADERS_MULTIBOOT_INFO_H_
