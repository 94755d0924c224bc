// HoldTimes: how long a lock was held exclusively, each time, as a histogram.
//
//   HoldTimes times;
//   SharedMutex lock(LockRank::kVm);
//   lock.Measure(&times);       // before any other thread has the lock
//
// It costs two looks at the clock for each hold, so nobody measures unless
// asked to.
//
// Locking: its own lock, held.

#ifndef SHADOWMMU_BASE_HOLD_TIMES_H_
#define SHADOWMMU_BASE_HOLD_TIMES_H_

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace shadowmmu {

class HoldTimes {
 public:
  // holds()[i]: from 2^i ns, less than 2^(i+1); the first has the shorter ones,
  // the last the longer ones, too.
  static constexpr size_t kBuckets = 32;
  using Histogram = std::array<uint64_t, kBuckets>;

  void Begin() { began_ = Clock::now(); }
  void End() { Add(Clock::now() - began_); }
  void Add(std::chrono::nanoseconds held) {
    const auto ns = static_cast<uint64_t>(std::max<int64_t>(held.count(), 1));
    const auto bucket = static_cast<size_t>(std::bit_width(ns) - 1);
    ++holds_[std::min(bucket, kBuckets - 1)];
    longest_ns_ = std::max(longest_ns_, ns);
  }

  const Histogram& holds() const { return holds_; }
  uint64_t longest_ns() const { return longest_ns_; }

 private:
  using Clock = std::chrono::steady_clock;

  Clock::time_point began_;
  Histogram holds_ = {};
  uint64_t longest_ns_ = 0;
};

}  // namespace shadowmmu

#endif  // SHADOWMMU_BASE_HOLD_TIMES_H_
