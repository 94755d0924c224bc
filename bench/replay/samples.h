// Samples: numbers that were measured, and what is said of them.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_BENCH_REPLAY_SAMPLES_H_
#define SHADOWMMU_BENCH_REPLAY_SAMPLES_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <optional>
#include <vector>

namespace shadowmmu::replay {

class Samples {
 public:
  void Add(uint64_t value) { values_.push_back(value); }

  size_t count() const { return values_.size(); }
  uint64_t sum() const {
    return std::accumulate(values_.begin(), values_.end(), uint64_t{0});
  }

  // Nothing can be said of no samples.
  std::optional<uint64_t> min() const {
    if (values_.empty()) return std::nullopt;
    return *std::min_element(values_.begin(), values_.end());
  }
  std::optional<uint64_t> max() const {
    if (values_.empty()) return std::nullopt;
    return *std::max_element(values_.begin(), values_.end());
  }
  // Of an even number of samples the mean of the two in the middle.
  std::optional<uint64_t> median() const {
    if (values_.empty()) return std::nullopt;
    std::vector<uint64_t> sorted = values_;
    std::sort(sorted.begin(), sorted.end());
    const uint64_t upper = sorted[sorted.size() / 2];
    const uint64_t lower = sorted[(sorted.size() - 1) / 2];
    return lower + (upper - lower) / 2;
  }

 private:
  std::vector<uint64_t> values_;
};

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_SAMPLES_H_
