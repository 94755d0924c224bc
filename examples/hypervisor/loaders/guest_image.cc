#include "loaders/guest_image.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "loaders/bios_data.h"
#include "loaders/bundle.h"
#include "loaders/bzimage.h"
#include "loaders/multiboot.h"

namespace hypervisor {

absl::StatusOr<CpuState> LoadGuest(const Bundle& bundle,
                                   const GuestMemoryView& memory) {
  if (absl::Status written = WriteBiosData(memory); !written.ok()) {
    return written;
  }
  GuestImage image{.file = bundle.image,
                   .initrd = bundle.initrd,
                   .cmdline = std::string(bundle.cmdline)};
  if (IsBzImage(image.file)) return LoadBzImage(image, memory);
  if (!FindMultibootHeader(image.file).has_value()) {
    return absl::InvalidArgumentError(
        "the image is neither a Linux bzImage nor has a Multiboot header");
  }
  // By custom the first word of a Multiboot command line is the image's name.
  image.cmdline = bundle.cmdline.empty()
                      ? bundle.options.name
                      : absl::StrCat(bundle.options.name, " ", bundle.cmdline);
  return LoadMultiboot(image, memory);
}

}  // namespace hypervisor
