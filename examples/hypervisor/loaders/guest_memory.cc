#include "loaders/guest_memory.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace hypervisor {

using shadowmmu::Gpa;

absl::StatusOr<GuestMemoryView> GuestMemoryView::Make(
    std::span<std::byte> block) {
  if (block.size() < kSmallest || block.size() > kLargest ||
      block.size() % kMiB != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a guest has from ", kSmallest / kMiB, " to ", kLargest / kMiB,
        " whole MiB of memory, not ", block.size(), " bytes"));
  }
  return GuestMemoryView(block);
}

std::array<E820Entry, 3> GuestMemoryView::e820() const {
  return {{
      {.base = kLowRam.begin.value(),
       .bytes = kLowRam.bytes,
       .type = E820Entry::kRam},
      {.base = kRom.begin.value(),
       .bytes = kRom.bytes,
       .type = E820Entry::kReserved},
      {.base = kHighRam.value(),
       .bytes = high_ram().bytes,
       .type = E820Entry::kRam},
  }};
}

absl::StatusOr<std::span<std::byte>> GuestMemoryView::Ram(
    GpaRange range) const {
  for (const GpaRange& ram : ram()) {
    if (ram.Contains(range)) {
      return block_.subspan(static_cast<size_t>(range.begin.value()),
                            static_cast<size_t>(range.bytes));
    }
  }
  return absl::OutOfRangeError(
      absl::StrCat("no RAM at [0x", absl::Hex(range.begin.value()), ", +0x",
                   absl::Hex(range.bytes), ")"));
}

absl::Status GuestMemoryView::Write(Gpa gpa,
                                    std::span<const std::byte> bytes) const {
  auto ram = Ram({gpa, bytes.size()});
  if (!ram.ok()) return ram.status();
  std::copy(bytes.begin(), bytes.end(), ram->begin());
  return absl::OkStatus();
}

absl::Status GuestMemoryView::Clear(GpaRange range) const {
  auto ram = Ram(range);
  if (!ram.ok()) return ram.status();
  std::fill(ram->begin(), ram->end(), std::byte{0});
  return absl::OkStatus();
}

}  // namespace hypervisor
