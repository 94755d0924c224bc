// Alarm: goes off after every N accesses.

#ifndef SHADOWMMU_BENCH_REPLAY_ALARM_H_
#define SHADOWMMU_BENCH_REPLAY_ALARM_H_

#include <cstdint>
#include <limits>

namespace shadowmmu::replay {

class Alarm {
 public:
  // For the first time at `first`; `every` 0: never.
  Alarm(uint64_t every, uint64_t first)
      : every_(every), next_(every == 0 ? kNever : first) {}

  // When it goes off next.
  uint64_t next() const { return next_; }
  // Does it go off at `now`? If so, it is set anew.
  bool Rings(uint64_t now) {
    if (now < next_) return false;
    next_ = now + every_;
    return true;
  }

 private:
  static constexpr uint64_t kNever = std::numeric_limits<uint64_t>::max();

  uint64_t every_;
  uint64_t next_;
};

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_ALARM_H_
