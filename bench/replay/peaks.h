// Peaks: the most that the library held at the moments when it was looked at:
// before and after each invalidation, at each step of a reclaim, and at the
// end.

#ifndef SHADOWMMU_BENCH_REPLAY_PEAKS_H_
#define SHADOWMMU_BENCH_REPLAY_PEAKS_H_

#include <algorithm>
#include <cstdint>

#include "shadowmmu/stats.h"

namespace shadowmmu::replay {

struct Peaks {
  uint64_t leaf_sptes = 0;
  uint64_t shadow_pages = 0;
  uint64_t metadata_bytes = 0;
  uint64_t pte_list_descs = 0;

  void Note(const Stats& stats) {
    leaf_sptes = std::max(leaf_sptes, stats.leaf_sptes);
    shadow_pages = std::max(shadow_pages, stats.shadow_pages);
    metadata_bytes = std::max(metadata_bytes, stats.metadata_bytes);
    pte_list_descs = std::max(pte_list_descs, stats.pte_list_descs);
  }
};

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_PEAKS_H_
