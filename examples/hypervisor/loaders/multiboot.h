// Multiboot images, as the Multiboot Specification 0.6.96 has them: ELF of 32
// or 64 bits, or any file whose header says by itself where it is to be loaded.
//
//  1. The image goes where it says. Its module, if there is one, follows it on
//     the next free page; the information (3.3), with the command line and the
//     memory map, lies in the middle of low RAM, or after the module where the
//     image has that.
//  2. Everything is in RAM, and nothing overlaps the image.
//
// Thread safety: none; the memory's.

#ifndef HYPERVISOR_LOADERS_MULTIBOOT_H_
#define HYPERVISOR_LOADERS_MULTIBOOT_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "absl/status/statusor.h"
#include "emulate/cpu_state.h"
#include "loaders/guest_image.h"
#include "loaders/guest_memory.h"

namespace hypervisor {

// The header that an image has in its first 8 KiB (3.1), without the video
// mode.
struct MultibootHeader {
  static constexpr uint32_t kMagic = 0x1badb002;
  // Flags: what the image asks for. A loader must know all below bit 16.
  static constexpr uint32_t kPageAlign = 1u << 0;
  static constexpr uint32_t kMemoryInfo = 1u << 1;
  static constexpr uint32_t kVideoMode = 1u << 2;
  static constexpr uint32_t kHasAddresses = 1u << 16;
  static constexpr uint32_t kRequired = 0xffff;

  uint32_t magic;
  uint32_t flags;
  uint32_t checksum;
  // These count with kHasAddresses only.
  uint32_t header_address;
  uint32_t load_address;
  uint32_t load_end_address;
  uint32_t bss_end_address;
  uint32_t entry_address;
};

// What eax holds when a Multiboot loader enters an image (3.2).
inline constexpr uint32_t kMultibootLoaderMagic = 0x2badb002;

struct MultibootHeaderPlace {
  // In the file.
  uint64_t offset;
  MultibootHeader header;
};
std::optional<MultibootHeaderPlace> FindMultibootHeader(
    std::span<const std::byte> file);

// Errors as of LoadGuest.
absl::StatusOr<CpuState> LoadMultiboot(const GuestImage& image,
                                       const GuestMemoryView& memory);

}  // namespace hypervisor

#endif  // HYPERVISOR_LOADERS_MULTIBOOT_H_
