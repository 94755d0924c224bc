// Placement: finds room in a guest's RAM beside what is already there.
//
//  1. What was taken stays taken. Page 0 is taken from the start: real mode has
//     its interrupt vectors there.
//  2. A place that was found is RAM, of one piece, and overlaps nothing taken.
//
// Thread safety: none.

#ifndef HYPERVISOR_LOADERS_PLACEMENT_H_
#define HYPERVISOR_LOADERS_PLACEMENT_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "loaders/guest_memory.h"
#include "shadowmmu/address.h"

namespace hypervisor {

class Placement {
 public:
  explicit Placement(const GuestMemoryView& memory);

  // Nothing else may be placed here.
  void Take(GpaRange range) { taken_.push_back(range); }

  // Takes the lowest, or the highest, place of `bytes` bytes in `within` that
  // begins on a page; nothing if there is none. bytes > 0.
  std::optional<GpaRange> TakeLowest(uint64_t bytes, GpaRange within);
  std::optional<GpaRange> TakeHighest(uint64_t bytes, GpaRange within);

 private:
  bool IsFree(GpaRange range, GpaRange within) const;

  std::vector<GpaRange> ram_;
  std::vector<GpaRange> taken_;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_LOADERS_PLACEMENT_H_
