// Bundle: all that the hypervisor is given: a newc archive (loaders/cpio.h)
// that the script `run` makes, as QEMU's -kernel takes one module only. Its
// members, in any order:
//
//   image     the guest: a Multiboot image or a Linux bzImage; must be there
//   initrd    an initramfs, or a Multiboot module
//   cmdline   the guest's command line
//   options   how to run it: loaders/guest_options.h
//
// Thread safety: a value that views the archive.

#ifndef HYPERVISOR_LOADERS_BUNDLE_H_
#define HYPERVISOR_LOADERS_BUNDLE_H_

#include <cstddef>
#include <optional>
#include <span>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "loaders/guest_options.h"

namespace hypervisor {

struct Bundle {
  // The longest command line that is taken, in bytes.
  static constexpr size_t kMaxCommandLine = 4096;

  std::span<const std::byte> image;
  std::optional<std::span<const std::byte>> initrd;
  // Without a NUL, and without the line's end.
  absl::string_view cmdline;
  GuestOptions options;

  // DataLoss if the archive is damaged, InvalidArgument if it is whole, and not
  // as above.
  static absl::StatusOr<Bundle> Read(std::span<const std::byte> archive);
};

}  // namespace hypervisor

#endif  // HYPERVISOR_LOADERS_BUNDLE_H_
