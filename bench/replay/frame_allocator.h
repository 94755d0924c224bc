// FrameAllocator: hands out the guest's frames, one from each slot in turn, so
// that neighbours in a program's memory lie in different slots.
//
// Frames that were given back go first, the last one first, as a kernel's hot
// lists do: what was a table a moment ago is a page or another table now. The
// very first frame is never handed out: gpa 0 is nothing.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_BENCH_REPLAY_FRAME_ALLOCATOR_H_
#define SHADOWMMU_BENCH_REPLAY_FRAME_ALLOCATOR_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "shadowmmu/address.h"
#include "shadowmmu/memslot.h"

namespace shadowmmu::replay {

class FrameAllocator {
 public:
  enum class Content : uint8_t {
    kZero,   // it was never used
    kStale,  // what its last owner left in it
  };
  struct Frame {
    Gfn gfn;
    Content content = Content::kZero;
  };

  // At least one slot.
  explicit FrameAllocator(const std::vector<SlotSpec>& slots)
      : used_(slots.size()) {
    for (const SlotSpec& slot : slots) ranges_.push_back(slot.gfns());
    used_.front() = 1;
  }

  // ResourceExhausted: there is none left.
  absl::StatusOr<Frame> Allocate() {
    if (!free_.empty()) {
      const Gfn gfn = free_.back();
      free_.pop_back();
      ++allocated_;
      return Frame{gfn, Content::kStale};
    }
    for (size_t tries = 0; tries < ranges_.size(); ++tries) {
      const size_t i = next_;
      next_ = (next_ + 1) % ranges_.size();
      if (used_[i] < ranges_[i].pages) {
        ++allocated_;
        return Frame{ranges_[i].begin + used_[i]++, Content::kZero};
      }
    }
    return absl::ResourceExhaustedError(absl::StrCat(
        "the guest's ", allocated_, " frames are used up: raise --memory"));
  }

  // One that was handed out. Nothing leads there any more, no TLB either.
  void Free(Gfn gfn) {
    free_.push_back(gfn);
    --allocated_;
  }

  // Frames that are handed out.
  uint64_t allocated() const { return allocated_; }
  // The ranges that all those lie in which ever were.
  std::vector<GfnRange> AllocatedRanges() const {
    std::vector<GfnRange> allocated;
    for (size_t i = 0; i < ranges_.size(); ++i) {
      allocated.push_back({ranges_[i].begin, used_[i]});
    }
    return allocated;
  }

 private:
  std::vector<GfnRange> ranges_;
  std::vector<uint64_t> used_;  // of each range, from its begin
  std::vector<Gfn> free_;
  size_t next_ = 0;
  uint64_t allocated_ = 0;
};

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_FRAME_ALLOCATOR_H_
