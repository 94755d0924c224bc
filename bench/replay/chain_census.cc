#include "bench/replay/chain_census.h"

#include <bit>

#include "absl/strings/str_cat.h"
#include "shadowmmu/dump.h"

namespace shadowmmu::replay {

ChainCensus ChainCensus::Take(const Mmu& mmu,
                              std::span<const GfnRange> frames) {
  ChainCensus census;
  for (const GfnRange& range : frames) {
    for (uint64_t i = 0; i < range.pages; ++i) {
      census.Add(DumpRmap(mmu, AddressSpace::kNormal, range.begin + i).size());
    }
  }
  return census;
}

void ChainCensus::Add(uint64_t length) {
  if (length == 0) return;
  ++frames_;
  sptes_ += length;
  longest_ = std::max(longest_, length);
  const auto bucket = static_cast<size_t>(std::bit_width(length - 1));
  if (bucket >= buckets_.size()) buckets_.resize(bucket + 1);
  ++buckets_[bucket];
}

std::vector<std::pair<std::string, uint64_t>> ChainCensus::Histogram() const {
  std::vector<std::pair<std::string, uint64_t>> histogram;
  for (size_t i = 0; i < buckets_.size(); ++i) {
    const uint64_t last = uint64_t{1} << i;
    const uint64_t first = last / 2 + 1;
    histogram.emplace_back(
        first >= last ? absl::StrCat(last) : absl::StrCat(first, "-", last),
        buckets_[i]);
  }
  return histogram;
}

}  // namespace shadowmmu::replay
