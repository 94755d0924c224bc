// FrameAllocator: hands out the guest's frames, one from each slot in turn, so
// that neighbours in a program's memory lie in different slots.
//
// Frames are never given back: they are zero when they are handed out.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_BENCH_REPLAY_FRAME_ALLOCATOR_H_
#define SHADOWMMU_BENCH_REPLAY_FRAME_ALLOCATOR_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "shadowmmu/address.h"

namespace shadowmmu::replay {

class FrameAllocator {
 public:
  // At least one range, none of them empty.
  explicit FrameAllocator(std::vector<GfnRange> ranges)
      : ranges_(std::move(ranges)), used_(ranges_.size()) {}

  // nullopt: there is none left.
  std::optional<Gfn> Allocate() {
    for (size_t tries = 0; tries < ranges_.size(); ++tries) {
      const size_t i = next_;
      next_ = (next_ + 1) % ranges_.size();
      if (used_[i] < ranges_[i].pages) return ranges_[i].begin + used_[i]++;
    }
    return std::nullopt;
  }

  // Frames handed out so far.
  uint64_t allocated() const {
    uint64_t sum = 0;
    for (const uint64_t used : used_) sum += used;
    return sum;
  }
  // The same, where they lie.
  std::vector<GfnRange> AllocatedRanges() const {
    std::vector<GfnRange> allocated;
    for (size_t i = 0; i < ranges_.size(); ++i) {
      allocated.push_back({ranges_[i].begin, used_[i]});
    }
    return allocated;
  }

 private:
  const std::vector<GfnRange> ranges_;
  std::vector<uint64_t> used_;  // of each range, from its begin
  size_t next_ = 0;
};

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_FRAME_ALLOCATOR_H_
