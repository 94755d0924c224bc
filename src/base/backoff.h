// Backoff: waits for what other threads will do soon, without keeping a CPU
// busy that they may need; and tells when it has taken too long.
//
//   Backoff backoff;
//   while (!done()) {
//     backoff.Wait();
//     if (auto waited = backoff.StallDue()) Report(*waited);
//   }
//
// Thread safety: one thread.

#ifndef SHADOWMMU_BASE_BACKOFF_H_
#define SHADOWMMU_BASE_BACKOFF_H_

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <thread>

namespace shadowmmu {

class Backoff {
 public:
  using Clock = std::chrono::steady_clock;

  // Milliseconds since the wait began, each time that they have doubled from
  // one second on.
  std::optional<uint64_t> StallDue() {
    if (sleep_ != kLongestSleep) return std::nullopt;
    const auto waited = std::chrono::duration_cast<std::chrono::milliseconds>(
        Clock::now() - began_);
    if (waited < next_stall_) return std::nullopt;
    next_stall_ = next_stall_ * 2 + kFirstStall;
    return static_cast<uint64_t>(waited.count());
  }
  // A little, then longer.
  void Wait() {
    if (yields_ < kYields) {
      ++yields_;
      std::this_thread::yield();
      return;
    }
    std::this_thread::sleep_for(sleep_);
    sleep_ = std::min(sleep_ * 2, kLongestSleep);
  }

 private:
  static constexpr int kYields = 64;
  static constexpr std::chrono::microseconds kLongestSleep{1000};
  static constexpr std::chrono::milliseconds kFirstStall{1000};

  int yields_ = 0;
  std::chrono::microseconds sleep_{20};
  const Clock::time_point began_ = Clock::now();
  std::chrono::milliseconds next_stall_ = kFirstStall;
};

}  // namespace shadowmmu

#endif  // SHADOWMMU_BASE_BACKOFF_H_
