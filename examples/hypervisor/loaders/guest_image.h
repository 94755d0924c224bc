// LoadGuest: puts a guest into memory, and says how its CPU begins.
//
// Which kind an image is, the image says itself: a Linux bzImage by the magic
// number of its setup header (loaders/bzimage.h), a Multiboot image by its
// Multiboot header (loaders/multiboot.h). What is both boots as a bzImage.
//
// Thread safety: none; the memory's.

#ifndef HYPERVISOR_LOADERS_GUEST_IMAGE_H_
#define HYPERVISOR_LOADERS_GUEST_IMAGE_H_

#include <cstddef>
#include <optional>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "emulate/cpu_state.h"
#include "loaders/guest_memory.h"

namespace hypervisor {

struct Bundle;

// What a boot loader loads.
struct GuestImage {
  std::span<const std::byte> file;
  // An initramfs, or a module.
  std::optional<std::span<const std::byte>> initrd;
  // No NUL in it.
  std::string cmdline;
};

// InvalidArgument if the bundle's image is of no kind, or damaged; OutOfRange
// if it has no room in `memory`, which may then be partly written. `memory` is
// all zeros before.
absl::StatusOr<CpuState> LoadGuest(const Bundle& bundle,
                                   const GuestMemoryView& memory);

}  // namespace hypervisor

#endif  // HYPERVISOR_LOADERS_GUEST_IMAGE_H_
