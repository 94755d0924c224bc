#include "loaders/placement.h"

#include <algorithm>

namespace hypervisor {

using shadowmmu::Gpa;
using shadowmmu::kPageOffsetMask;
using shadowmmu::kPageSize;

namespace {

Gpa PageDown(Gpa gpa) { return Gpa(gpa.value() & ~kPageOffsetMask); }
Gpa PageUp(Gpa gpa) { return PageDown(gpa + kPageOffsetMask); }

}  // namespace

Placement::Placement(const GuestMemoryView& memory)
    : taken_({{Gpa(0), kPageSize}}) {
  for (const GpaRange& range : memory.ram()) ram_.push_back(range);
}

bool Placement::IsFree(GpaRange range, GpaRange within) const {
  return within.Contains(range) &&
         std::any_of(
             ram_.begin(), ram_.end(),
             [&](const GpaRange& ram) { return ram.Contains(range); }) &&
         std::none_of(taken_.begin(), taken_.end(), [&](const GpaRange& taken) {
           return taken.Overlaps(range);
         });
}

// The lowest place begins where something else ends, or where RAM or `within`
// begins; the highest ends likewise. So only those are tried.
std::optional<GpaRange> Placement::TakeLowest(uint64_t bytes, GpaRange within) {
  std::vector<Gpa> begins = {within.begin};
  for (const GpaRange& ram : ram_) begins.push_back(ram.begin);
  for (const GpaRange& taken : taken_) begins.push_back(taken.end());
  std::sort(begins.begin(), begins.end());
  for (const Gpa begin : begins) {
    const GpaRange range = {PageUp(begin), bytes};
    if (IsFree(range, within)) {
      Take(range);
      return range;
    }
  }
  return std::nullopt;
}

std::optional<GpaRange> Placement::TakeHighest(uint64_t bytes,
                                               GpaRange within) {
  std::vector<Gpa> ends = {within.end()};
  for (const GpaRange& ram : ram_) ends.push_back(ram.end());
  for (const GpaRange& taken : taken_) ends.push_back(taken.begin);
  std::sort(ends.begin(), ends.end());
  std::reverse(ends.begin(), ends.end());
  for (const Gpa end : ends) {
    if (end.value() < bytes) continue;
    const GpaRange range = {PageDown(end - bytes), bytes};
    if (IsFree(range, within)) {
      Take(range);
      return range;
    }
  }
  return std::nullopt;
}

}  // namespace hypervisor
