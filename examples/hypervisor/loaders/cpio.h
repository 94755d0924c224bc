// Reads a "newc" archive, as `cpio -o -H newc` writes it.
//
// Each member is a header of 110 characters (the magic "070701" and 13 numbers
// of 8 hexadecimal digits), its name with a NUL, and its content; name and
// content each end on a multiple of 4 bytes. A member named "TRAILER!!!" is the
// last one, and what follows it is padding (cpio(5)).
//
// Thread safety: a pure function.

#ifndef HYPERVISOR_LOADERS_CPIO_H_
#define HYPERVISOR_LOADERS_CPIO_H_

#include <cstddef>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace hypervisor {

// Views of the archive.
struct CpioMember {
  absl::string_view name;
  std::span<const std::byte> content;
};

// An archive of more members than this is refused.
inline constexpr size_t kMaxCpioMembers = 16;

// The members in their order; DataLoss, with the offset, if it is no whole
// archive.
absl::StatusOr<std::vector<CpioMember>> ReadCpio(
    std::span<const std::byte> archive);

}  // namespace hypervisor

#endif  // HYPERVISOR_LOADERS_CPIO_H_
