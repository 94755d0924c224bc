#include "boot/memory_map.h"

#include "boot/exit.h"
#include "boot/freestanding.h"
#include "boot/module.h"

// From the linker.
extern "C" const char __executable_start[];
extern "C" const char _end[];

namespace hypervisor {
namespace {

using shadowmmu::Hva;
using shadowmmu::HvaRange;
using shadowmmu::kPageSize;

constexpr uint64_t kLowest = uint64_t{1} << 20;
constexpr uint64_t kHighest = uint64_t{1} << 32;

constexpr size_t kMaxRanges = 64;
constinit HvaRange ranges[kMaxRanges] = {};
constinit size_t range_count = 0;

void Append(uint64_t begin, uint64_t end) {
  if (begin >= end) return;
  if (range_count == kMaxRanges) ExitBecause("the memory map is too long");
  ranges[range_count++] = {Hva(begin), end - begin};
}

// Takes the pages that `taken` touches out of every range.
void Exclude(HvaRange taken) {
  const uint64_t begin = AlignDown(taken.begin.value(), kPageSize);
  const uint64_t end = AlignUp(taken.end().value(), kPageSize);
  const size_t count = range_count;
  for (size_t i = 0; i < count; ++i) {
    const HvaRange range = ranges[i];
    if (!range.Overlaps({Hva(begin), end - begin})) continue;
    const uint64_t range_begin = range.begin.value();
    const uint64_t range_end = range.end().value();
    // What is left below stays in place, perhaps empty; what is left above is
    // new.
    ranges[i].bytes = begin > range_begin ? begin - range_begin : 0;
    Append(end, range_end);
  }
}

void RemoveEmpty() {
  size_t kept = 0;
  for (size_t i = 0; i < range_count; ++i) {
    if (ranges[i].bytes != 0) ranges[kept++] = ranges[i];
  }
  range_count = kept;
}

}  // namespace

void InitMemoryMap(const StartInfo& info) {
  const auto* entries =
      reinterpret_cast<const StartInfoMemory*>(info.memory_map);
  for (uint32_t i = 0; i < info.memory_map_count; ++i) {
    const StartInfoMemory& entry = entries[i];
    if (entry.type != StartInfoMemory::kRam || entry.address >= kHighest) {
      continue;
    }
    const uint64_t bytes = entry.bytes < kHighest - entry.address
                               ? entry.bytes
                               : kHighest - entry.address;
    const uint64_t begin = AlignUp(entry.address, kPageSize);
    Append(begin < kLowest ? kLowest : begin,
           AlignDown(entry.address + bytes, kPageSize));
  }
  Exclude(ImageRange());
  const std::span<const std::byte> module = BootModule();
  if (!module.empty()) {
    Exclude({Hva(reinterpret_cast<uintptr_t>(module.data())), module.size()});
  }
  RemoveEmpty();
}

std::span<const HvaRange> UsableRam() { return {ranges, range_count}; }

HvaRange ImageRange() {
  const auto begin = reinterpret_cast<uintptr_t>(__executable_start);
  return {Hva(begin), reinterpret_cast<uintptr_t>(_end) - begin};
}

}  // namespace hypervisor
