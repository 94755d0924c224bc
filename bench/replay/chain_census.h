// ChainCensus: how many sptes map each frame of the guest: the lengths of the
// rmap chains.
//
// Thread safety: values.

#ifndef SHADOWMMU_BENCH_REPLAY_CHAIN_CENSUS_H_
#define SHADOWMMU_BENCH_REPLAY_CHAIN_CENSUS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "shadowmmu/address.h"
#include "shadowmmu/mmu.h"

namespace shadowmmu::replay {

class ChainCensus {
 public:
  ChainCensus() = default;
  // Looks at every frame of `frames`, of the normal address space. Chains of
  // 4K sptes only: the host of a replay has no other pages.
  static ChainCensus Take(const Mmu& mmu, std::span<const GfnRange> frames);

  void Add(uint64_t length);

  uint64_t frames() const { return frames_; }  // with at least one spte
  uint64_t sptes() const { return sptes_; }
  uint64_t longest() const { return longest_; }
  // Frames by length: "1", "2", "3-4", "5-8", ... up to the longest.
  std::vector<std::pair<std::string, uint64_t>> Histogram() const;

 private:
  uint64_t frames_ = 0;
  uint64_t sptes_ = 0;
  uint64_t longest_ = 0;
  std::vector<uint64_t> buckets_;  // by the bits of (length - 1)
};

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_CHAIN_CENSUS_H_
