#include "loaders/multiboot.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "loaders/bytes.h"
#include "loaders/elf.h"
#include "loaders/first_state.h"
#include "loaders/multiboot_info.h"
#include "loaders/placement.h"

namespace hypervisor {

using shadowmmu::Gpa;

namespace {

constexpr uint64_t kSearchBytes = 8192;
constexpr uint64_t kSearchStep = 4;
// The header without addresses.
constexpr uint64_t kShortHeader = 12;
// The specification leaves the selectors open; many images go on with these.
constexpr uint16_t kCodeSelector = 0x08;
constexpr uint16_t kDataSelector = 0x10;

absl::Status Bad(absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("the Multiboot image: ", what));
}

// The image of a header with addresses, as the one segment that it is (3.1.3).
absl::StatusOr<ElfImage> ReadByAddresses(std::span<const std::byte> file,
                                         const MultibootHeaderPlace& place) {
  const MultibootHeader& header = place.header;
  if (header.header_address < header.load_address ||
      header.header_address - header.load_address > place.offset) {
    return Bad("load_addr is not in the file");
  }
  const uint64_t offset =
      place.offset - (header.header_address - header.load_address);
  // Zero means all of the file, and no bss.
  uint64_t content_bytes = file.size() - offset;
  if (header.load_end_address != 0) {
    if (header.load_end_address < header.load_address) {
      return Bad("load_end_addr is below load_addr");
    }
    content_bytes = header.load_end_address - header.load_address;
  }
  uint64_t memory_bytes = content_bytes;
  if (header.bss_end_address != 0) {
    if (header.bss_end_address < header.load_address + content_bytes) {
      return Bad("bss_end_addr is below the end of what is loaded");
    }
    memory_bytes = header.bss_end_address - header.load_address;
  }
  const auto content = SliceAt(file, offset, content_bytes);
  if (!content.has_value() || content->empty()) {
    return Bad("what is to be loaded is not in the file");
  }
  return ElfImage{
      .entry = Gpa(header.entry_address),
      .segments = {{.range = {Gpa(header.load_address), memory_bytes},
                    .content = *content}}};
}

absl::StatusOr<ElfImage> ReadImage(std::span<const std::byte> file) {
  const auto place = FindMultibootHeader(file);
  if (!place.has_value()) return Bad("it has no Multiboot header");
  const uint32_t known = MultibootHeader::kPageAlign |
                         MultibootHeader::kMemoryInfo |
                         MultibootHeader::kVideoMode;
  if ((place->header.flags & MultibootHeader::kRequired & ~known) != 0) {
    return Bad("it requires what this loader does not know");
  }
  if ((place->header.flags & MultibootHeader::kHasAddresses) != 0) {
    return ReadByAddresses(file, *place);
  }
  return ReadElf(file);
}

// Writes the image, and takes its place. Returns the end of it.
absl::StatusOr<Gpa> WriteSegments(const ElfImage& elf,
                                  const GuestMemoryView& memory,
                                  Placement* placement) {
  Gpa end;
  for (const ElfSegment& segment : elf.segments) {
    absl::Status status = memory.Clear(segment.range);
    status.Update(memory.Write(segment.range.begin, segment.content));
    if (!status.ok()) return status;
    placement->Take(segment.range);
    end = std::max(end, segment.range.end());
  }
  return end;
}

}  // namespace

std::optional<MultibootHeaderPlace> FindMultibootHeader(
    std::span<const std::byte> file) {
  const uint64_t limit = std::min<uint64_t>(kSearchBytes, file.size());
  for (uint64_t at = 0; at + kShortHeader <= limit; at += kSearchStep) {
    if (ReadAt<uint32_t>(file, at) != MultibootHeader::kMagic) continue;
    MultibootHeader header = {};
    const auto bytes =
        file.subspan(at, std::min<uint64_t>(sizeof(header), file.size() - at));
    std::memcpy(&header, bytes.data(), bytes.size());
    if (header.magic + header.flags + header.checksum == 0) {
      return MultibootHeaderPlace{.offset = at, .header = header};
    }
  }
  return std::nullopt;
}

absl::StatusOr<CpuState> LoadMultiboot(const GuestImage& image,
                                       const GuestMemoryView& memory) {
  auto elf = ReadImage(image.file);
  if (!elf.ok()) return elf.status();
  Placement placement(memory);
  auto end = WriteSegments(*elf, memory, &placement);
  if (!end.ok()) return end.status();
  if (!memory.Ram({elf->entry, 1}).ok()) return Bad("its entry is not in RAM");
  auto info = WriteMultibootInfo(image, *end, memory, &placement);
  if (!info.ok()) return info.status();
  CpuState state = FlatProtectedMode(elf->entry, kCodeSelector, kDataSelector);
  state.gpr[kRax] = kMultibootLoaderMagic;
  state.gpr[kRbx] = info->value();
  return state;
}

}  // namespace hypervisor
