#include "devices/mmio_bus.h"

#include <algorithm>
#include <cstdlib>

namespace hypervisor {
namespace {

constexpr uint64_t MaskOf(unsigned bytes) {
  return bytes >= 8 ? ~uint64_t{0} : (uint64_t{1} << (8 * bytes)) - 1;
}

}  // namespace

void MmioBus::Attach(shadowmmu::Gpa first, uint64_t bytes, MmioDevice* device) {
  // Wrong wiring is a defect of the board, never a guest's doing.
  if (device == nullptr || bytes == 0) std::abort();
  for (const Range& range : ranges_) {
    if (first - range.first < range.bytes || range.first - first < bytes) {
      std::abort();
    }
  }
  ranges_.push_back({.first = first, .bytes = bytes, .device = device});
}

void MmioBus::Move(const MmioDevice* device, shadowmmu::Gpa first) {
  const auto moved =
      std::find_if(ranges_.begin(), ranges_.end(),
                   [&](const Range& range) { return range.device == device; });
  if (moved == ranges_.end()) return;
  // Last, so that what is there already is found first.
  Range range = *moved;
  ranges_.erase(moved);
  range.first = first;
  ranges_.push_back(range);
}

const MmioBus::Range* MmioBus::Find(shadowmmu::Gpa gpa, unsigned bytes) const {
  for (const Range& range : ranges_) {
    const uint64_t offset = gpa - range.first;
    if (offset < range.bytes && bytes <= range.bytes - offset) return &range;
  }
  return nullptr;
}

uint64_t MmioBus::Read(shadowmmu::Gpa gpa, unsigned bytes) {
  const Range* const range = Find(gpa, bytes);
  if (range == nullptr) return MaskOf(bytes);
  return range->device->Read(gpa - range->first, bytes) & MaskOf(bytes);
}

void MmioBus::Write(shadowmmu::Gpa gpa, unsigned bytes, uint64_t value) {
  const Range* const range = Find(gpa, bytes);
  if (range == nullptr) return;
  range->device->Write(gpa - range->first, bytes, value & MaskOf(bytes));
}

}  // namespace hypervisor
