// FrameUsers: how many there are who use each frame that holds a page: entries
// of processes' tables, and the page cache.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_BENCH_REPLAY_FRAME_USERS_H_
#define SHADOWMMU_BENCH_REPLAY_FRAME_USERS_H_

#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "shadowmmu/address.h"

namespace shadowmmu::replay {

class FrameUsers {
 public:
  enum class Left : uint8_t { kNone, kSome };

  void Add(Gfn frame) { ++users_[frame]; }
  // One that was added goes. kNone: the frame can be freed.
  Left Drop(Gfn frame) {
    const auto found = users_.find(frame);
    if (--found->second != 0) return Left::kSome;
    users_.erase(found);
    return Left::kNone;
  }
  uint64_t Of(Gfn frame) const {
    const auto found = users_.find(frame);
    return found == users_.end() ? 0 : found->second;
  }

 private:
  absl::flat_hash_map<Gfn, uint64_t> users_;
};

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_FRAME_USERS_H_
