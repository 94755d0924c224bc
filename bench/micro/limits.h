// The limits of the machine, which every figure is held against.
//
//   L  the latency of one dependent load that misses every cache: a pointer
//      chase through 1 GiB on huge pages
//   R  one independent random read-modify-write, prefetched ahead
//
// Thread safety: one thread.

#ifndef SHADOWMMU_BENCH_MICRO_LIMITS_H_
#define SHADOWMMU_BENCH_MICRO_LIMITS_H_

#include <cstddef>
#include <cstdint>
#include <optional>

namespace shadowmmu::bench {

// L in nanoseconds, measured once a process, at the first call. None under
// valgrind, where it would mean nothing.
std::optional<double> MissLatency();

// Memory on huge pages, as far as the system has them to give. CHECKs that
// there is some.
class HugeMemory {
 public:
  explicit HugeMemory(size_t bytes);
  ~HugeMemory();
  HugeMemory(const HugeMemory&) = delete;
  HugeMemory& operator=(const HugeMemory&) = delete;

  size_t bytes() const { return bytes_; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(memory_);
  }

 private:
  const size_t bytes_;
  void* memory_ = nullptr;
};

// How much memory the limits are measured in: 1 GiB, 64 MiB with --small.
size_t LimitBytes();

// A ring through all lines of `memory` in random order, and steps along it.
class Chase {
 public:
  explicit Chase(HugeMemory& memory);
  void Step(uint64_t steps);

 private:
  struct alignas(64) Line {
    uint64_t next;
  };
  Line* const lines_;
  uint64_t at_ = 0;
};

// Adds one to `updates` words at random places, each prefetched ahead; the sum
// of what was there before, so that nothing can be left out.
uint64_t UpdateAtRandom(HugeMemory& memory, uint64_t seed, uint64_t updates);
// The sum of all words.
uint64_t ReadAll(const HugeMemory& memory);

}  // namespace shadowmmu::bench

#endif  // SHADOWMMU_BENCH_MICRO_LIMITS_H_
