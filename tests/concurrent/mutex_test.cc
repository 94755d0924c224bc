// The locks under load: what they guard is plain memory, so that
// ThreadSanitizer sees when they do not.

#include "src/base/mutex.h"

#include <cstdint>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "src/base/lock_rank.h"

namespace shadowmmu {
namespace {

constexpr int kThreads = 4;
constexpr int kRounds = 5000;

template <typename Body>
void RunInThreads(Body body) {
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int i = 0; i < kThreads; ++i) threads.emplace_back(body, i);
  for (std::thread& thread : threads) thread.join();
}

TEST(MutexConcurrentTest, NoIncrementIsLost) {
  Mutex mutex(LockRank::kVm);
  std::uint64_t count = 0;
  RunInThreads([&](int /*thread*/) {
    for (int i = 0; i < kRounds; ++i) {
      MutexLock hold(&mutex);
      ++count;
    }
  });
  EXPECT_EQ(count, std::uint64_t{kThreads} * kRounds);
  EXPECT_FALSE(mutex.Contended());
}

TEST(SpinLockConcurrentTest, NoIncrementIsLost) {
  SpinLock lock(LockRank::kLeaf);
  std::uint64_t count = 0;
  RunInThreads([&](int thread) {
    for (int i = 0; i < kRounds; ++i) {
      if (thread % 2 == 0) {
        SpinLockHolder hold(&lock);
        ++count;
      } else {
        while (!lock.TryLock()) std::this_thread::yield();
        ++count;
        lock.Unlock();
      }
    }
  });
  EXPECT_EQ(count, std::uint64_t{kThreads} * kRounds);
}

TEST(SharedMutexConcurrentTest, ReadersNeverSeeAWriteInProgress) {
  SharedMutex mutex(LockRank::kVm, kThreads);
  std::uint64_t first = 0;
  std::uint64_t second = 0;
  std::vector<std::uint64_t> torn(kThreads, 0);
  RunInThreads([&](int thread) {
    for (int i = 0; i < kRounds; ++i) {
      if (thread == 0) {
        WriterMutexLock hold(&mutex);
        ++first;
        ++second;
      } else {
        ReaderMutexLock hold(&mutex, static_cast<unsigned>(thread));
        if (first != second) ++torn[static_cast<std::size_t>(thread)];
      }
    }
  });
  EXPECT_EQ(first, std::uint64_t{kRounds});
  for (std::uint64_t count : torn) EXPECT_EQ(count, 0u);
}

}  // namespace
}  // namespace shadowmmu
