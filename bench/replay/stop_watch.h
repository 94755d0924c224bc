// StopWatch: how long something took, by the monotonic clock. One reading costs
// some 20 to 30 ns, and each measured interval includes about one.

#ifndef SHADOWMMU_BENCH_REPLAY_STOP_WATCH_H_
#define SHADOWMMU_BENCH_REPLAY_STOP_WATCH_H_

#include <chrono>

namespace shadowmmu::replay {

using Nanoseconds = std::chrono::nanoseconds;

class StopWatch {
 public:
  // Runs from now on.
  StopWatch() : started_(Clock::now()) {}
  Nanoseconds elapsed() const { return Clock::now() - started_; }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point started_;
};

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_STOP_WATCH_H_
