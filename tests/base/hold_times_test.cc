// What HoldTimes makes of durations, and that a Mutex tells it of each hold.

#include "src/base/hold_times.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <numeric>

#include "src/base/lock_rank.h"
#include "src/base/mutex.h"

namespace shadowmmu {
namespace {

using std::chrono::nanoseconds;

uint64_t Holds(const HoldTimes& times) {
  return std::accumulate(times.holds().begin(), times.holds().end(),
                         uint64_t{0});
}

TEST(HoldTimesTest, EachPowerOfTwoBeginsABucket) {
  HoldTimes times;
  for (unsigned i = 0; i < 31; ++i) {
    times.Add(nanoseconds(int64_t{1} << i));
    times.Add(nanoseconds((int64_t{2} << i) - 1));
  }
  for (unsigned i = 0; i < 31; ++i) EXPECT_EQ(times.holds()[i], 2u) << i;
  EXPECT_EQ(times.longest_ns(), (uint64_t{2} << 30) - 1);
}

TEST(HoldTimesTest, TheEndsTakeWhatIsBeyondThem) {
  HoldTimes times;
  times.Add(nanoseconds(0));
  times.Add(nanoseconds(-5));  // a clock that is set back
  EXPECT_EQ(times.holds().front(), 2u);
  times.Add(std::chrono::hours(1));
  EXPECT_EQ(times.holds().back(), 1u);
  EXPECT_EQ(Holds(times), 3u);
  EXPECT_EQ(times.longest_ns(), uint64_t{3'600'000'000'000});
}

TEST(HoldTimesTest, ASharedMutexTellsOfEachHoldOfAWriter) {
  HoldTimes times;
  SharedMutex mutex(LockRank::kVm);
  { WriterMutexLock held(&mutex); }
  EXPECT_EQ(Holds(times), 0u);
  mutex.Measure(&times);
  { WriterMutexLock held(&mutex); }
  if (mutex.TryLock()) {
    EXPECT_EQ(Holds(times), 1u) << "it is not over";
    mutex.Unlock();
  }
  { ReaderMutexLock held(&mutex); }
  EXPECT_EQ(Holds(times), 2u);
  EXPECT_GE(times.longest_ns(), 1u);
}

}  // namespace
}  // namespace shadowmmu
