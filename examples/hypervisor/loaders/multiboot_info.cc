#include "loaders/multiboot_info.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <span>

#include "absl/strings/string_view.h"

namespace hypervisor {

using shadowmmu::Gpa;

namespace {

constexpr absl::string_view kLoaderName = "shadowmmu";
// Not at either end of low RAM: kernels put code for real mode there, some
// (Xen) before they have read the information.
constexpr GpaRange kLowInfo = {Gpa(0x40000), 0x40000};

// All that lies behind the information structure, in one piece.
struct InfoBlock {
  MultibootInfo info;
  MultibootModule module;
  std::array<MultibootMapEntry, 3> map;
  std::array<char, kLoaderName.size() + 1> loader_name;
  // Then the command line, with its NUL.
};

uint32_t Low(uint64_t value) { return static_cast<uint32_t>(value); }
uint32_t High(uint64_t value) { return static_cast<uint32_t>(value >> 32); }

std::array<MultibootMapEntry, 3> MapOf(const GuestMemoryView& memory) {
  std::array<MultibootMapEntry, 3> map;
  const auto e820 = memory.e820();
  std::transform(e820.begin(), e820.end(), map.begin(), [](const E820Entry& e) {
    return MultibootMapEntry{.base_low = Low(e.base),
                             .base_high = High(e.base),
                             .bytes_low = Low(e.bytes),
                             .bytes_high = High(e.bytes),
                             .type = e.type};
  });
  return map;
}

InfoBlock MakeBlock(Gpa at, const std::optional<GpaRange>& module,
                    const GuestMemoryView& memory) {
  const uint32_t address = Low(at.value());
  const uint32_t cmdline = address + Low(sizeof(InfoBlock));
  InfoBlock block = {};
  block.info = {
      .flags = MultibootInfo::kMemory | MultibootInfo::kCommandLine |
               MultibootInfo::kMemoryMap | MultibootInfo::kLoaderName,
      .memory_lower = Low(GuestMemoryView::kLowRam.bytes >> 10),
      .memory_upper = Low(memory.high_ram().bytes >> 10),
      .command_line = cmdline,
      .memory_map_bytes = Low(sizeof(block.map)),
      .memory_map_address = address + Low(offsetof(InfoBlock, map)),
      .loader_name = address + Low(offsetof(InfoBlock, loader_name)),
  };
  block.map = MapOf(memory);
  std::copy(kLoaderName.begin(), kLoaderName.end(), block.loader_name.begin());
  if (module.has_value()) {
    block.info.flags |= MultibootInfo::kModules;
    block.info.modules = 1;
    block.info.modules_address = address + Low(offsetof(InfoBlock, module));
    block.module = {.begin = Low(module->begin.value()),
                    .end = Low(module->end().value()),
                    .text = cmdline};
  }
  return block;
}

}  // namespace

absl::StatusOr<Gpa> WriteMultibootInfo(const GuestImage& image, Gpa end,
                                       const GuestMemoryView& memory,
                                       Placement* placement) {
  const GpaRange rest = {end, memory.size() - end.value()};
  absl::Status status;
  std::optional<GpaRange> module;
  if (image.initrd.has_value() && !image.initrd->empty()) {
    module = placement->TakeLowest(image.initrd->size(), rest);
    if (!module.has_value()) {
      return absl::OutOfRangeError("no room in memory for the module");
    }
    status.Update(memory.Write(module->begin, *image.initrd));
  }
  const uint64_t bytes = sizeof(InfoBlock) + image.cmdline.size() + 1;
  auto place = placement->TakeLowest(bytes, kLowInfo);
  if (!place.has_value()) place = placement->TakeLowest(bytes, rest);
  if (!place.has_value()) {
    return absl::OutOfRangeError(
        "no room in memory for the Multiboot information");
  }
  const Gpa at = place->begin;
  status.Update(memory.WriteObject(at, MakeBlock(at, module, memory)));
  status.Update(
      memory.Clear({at + sizeof(InfoBlock), image.cmdline.size() + 1}));
  status.Update(memory.Write(at + sizeof(InfoBlock),
                             std::as_bytes(std::span(image.cmdline))));
  if (!status.ok()) return status;
  return at;
}

}  // namespace hypervisor
