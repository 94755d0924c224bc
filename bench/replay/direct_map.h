// The kernel half of every address space: one map of all guest memory, in pages
// of 2 MiB, at a fixed place.
//
//   root entry 273 --> directory pointers --> directories, one for each GiB
//
// It is there before anything runs, as a loader would leave it: the stores are
// the host's, and nothing is shadowed yet.

#ifndef SHADOWMMU_BENCH_REPLAY_DIRECT_MAP_H_
#define SHADOWMMU_BENCH_REPLAY_DIRECT_MAP_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "bench/replay/frame_allocator.h"
#include "shadowmmu/address.h"
#include "tests/harness/guest_memory.h"

namespace shadowmmu::replay {

// Where it begins (Linux's place for it).
inline constexpr Gva kDirectMap{0xffff'8880'0000'0000};
// And how much it can map: what is below one entry of the root.
inline constexpr uint64_t kDirectMapBytes = BytesPerEntry(Level::k512G);

constexpr Gva DirectGva(Gpa gpa) { return kDirectMap + gpa.value(); }
constexpr unsigned kDirectMapIndex = IndexAt(kDirectMap, Level::k512G);

struct DirectMap {
  uint64_t root_entry = 0;  // for every root, at kDirectMapIndex
  uint64_t tables = 0;      // that it is made of
};

// Maps the frames below `end`. InvalidArgument: `end` is too high.
// ResourceExhausted: no frames for the tables. Internal: guest memory refuses.
absl::StatusOr<DirectMap> BuildDirectMap(testing::GuestMemory* memory,
                                         FrameAllocator* frames, Gpa end);

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_DIRECT_MAP_H_
