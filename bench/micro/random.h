// The random numbers of the workloads, the same in every run and on every
// machine: splitmix64, and Fisher-Yates shuffles with it (docs/benchmarks.md).
//
// Thread safety: values.

#ifndef SHADOWMMU_BENCH_MICRO_RANDOM_H_
#define SHADOWMMU_BENCH_MICRO_RANDOM_H_

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

namespace shadowmmu::bench {

class SplitMix64 {
 public:
  explicit SplitMix64(uint64_t seed) : state_(seed) {}

  uint64_t Next() {
    state_ += kStep;
    return Mix(state_);
  }
  // The `n`th number of `seed`, counted from 1: Next() n times, at once.
  static uint64_t At(uint64_t seed, uint64_t n) {
    return Mix(seed + n * kStep);
  }
  // Within [0, bound), by multiplication.
  uint64_t Below(uint64_t bound) { return Scale(Next(), bound); }
  static uint64_t Scale(uint64_t number, uint64_t bound) {
    __extension__ using Wide = unsigned __int128;
    return static_cast<uint64_t>((Wide{number} * bound) >> 64);
  }

 private:
  static constexpr uint64_t kStep = 0x9e3779b97f4a7c15u;
  static uint64_t Mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }

  uint64_t state_;
};

template <typename T>
void Shuffle(std::vector<T>& values, uint64_t seed) {
  SplitMix64 random(seed);
  for (size_t i = values.size(); i-- > 1;) {
    std::swap(values[i], values[random.Below(i + 1)]);
  }
}

// 0 to n - 1, shuffled.
inline std::vector<uint32_t> Permutation(uint64_t n, uint64_t seed) {
  std::vector<uint32_t> values(n);
  std::iota(values.begin(), values.end(), uint32_t{0});
  Shuffle(values, seed);
  return values;
}

}  // namespace shadowmmu::bench

#endif  // SHADOWMMU_BENCH_MICRO_RANDOM_H_
