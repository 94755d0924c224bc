// The locks, alone and in order. What threads do with them under load is in
// tests/concurrent.

#include "src/base/mutex.h"

#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/base/check.h"
#include "src/base/lock_rank.h"

namespace shadowmmu {
namespace {

// The rules are broken on purpose here, so clang's analysis must look away.
#define BREAKS_THE_RULES ABSL_NO_THREAD_SAFETY_ANALYSIS

// Waits until `lock` is contended; the test's timeout is the limit.
template <typename Lock>
void AwaitContention(const Lock& lock) {
  while (!lock.Contended()) std::this_thread::yield();
}

// Whether the calling thread could take `lock` just now; it is free afterwards.
template <typename Lock>
bool CanLock(Lock* lock) {
  if (!lock->TryLock()) return false;
  lock->Unlock();
  return true;
}

bool CanReaderLock(SharedMutex* lock) {
  if (!lock->ReaderTryLock()) return false;
  lock->ReaderUnlock();
  return true;
}

TEST(LockRankTest, NamesItself) {
  EXPECT_STREQ(LockRankName(LockRank::kSlotsUpdate), "kSlotsUpdate");
  EXPECT_STREQ(LockRankName(LockRank::kSrcu), "kSrcu");
  EXPECT_STREQ(LockRankName(LockRank::kVm), "kVm");
  EXPECT_STREQ(LockRankName(LockRank::kStructure), "kStructure");
  EXPECT_STREQ(LockRankName(LockRank::kPage), "kPage");
  EXPECT_STREQ(LockRankName(LockRank::kChunk), "kChunk");
  EXPECT_STREQ(LockRankName(LockRank::kLeaf), "kLeaf");
}

TEST(LockRankTest, RanksMayBeTakenInTheirOrder) {
  Mutex slots(LockRank::kSlotsUpdate);
  SharedMutex vm(LockRank::kVm);
  Mutex structure(LockRank::kStructure);
  SpinLock page(LockRank::kPage);
  SpinLock chunk(LockRank::kChunk);
  SpinLock leaf(LockRank::kLeaf);
  {
    MutexLock hold_slots(&slots);
    ReaderMutexLock hold_vm(&vm);
    MutexLock hold_structure(&structure);
    SpinLockHolder hold_page(&page);
    SpinLockHolder hold_chunk(&chunk);
    SpinLockHolder hold_leaf(&leaf);
  }
  MutexLock again(&slots);
}

TEST(LockRankTest, ReleaseInAnyOrderIsRemembered) {
  Mutex slots(LockRank::kSlotsUpdate);
  Mutex vm(LockRank::kVm);
  Mutex leaf(LockRank::kLeaf);
  slots.Lock();
  vm.Lock();
  slots.Unlock();
  leaf.Lock();
  vm.Unlock();
  leaf.Unlock();
  MutexLock hold(&slots);
}

TEST(LockRankTest, TryLockMayGoAgainstTheOrder) {
  Mutex vm(LockRank::kVm);
  Mutex leaf(LockRank::kLeaf);
  MutexLock hold(&leaf);
  EXPECT_TRUE(CanLock(&vm));
}

class LockRankDeathTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!kDebugChecks)
      GTEST_SKIP() << "lock ranks are checked in debug builds only";
  }
};

TEST_F(LockRankDeathTest, TakingALowerRankDiesAndNamesBoth) {
  Mutex vm(LockRank::kVm);
  SpinLock chunk(LockRank::kChunk);
  EXPECT_DEATH(
      {
        SpinLockHolder hold(&chunk);
        vm.Lock();
        vm.Unlock();
      },
      "taking the kVm lock at .* while holding the kChunk lock at");
}

TEST_F(LockRankDeathTest, TakingAnEqualRankDies) {
  Mutex one(LockRank::kLeaf);
  Mutex two(LockRank::kLeaf);
  EXPECT_DEATH(
      {
        MutexLock hold(&one);
        MutexLock too(&two);
      },
      "taking the kLeaf lock at .* while holding the kLeaf lock at");
}

TEST_F(LockRankDeathTest, EveryLockHeldCounts) {
  Mutex vm(LockRank::kVm);
  Mutex page(LockRank::kPage);
  Mutex leaf(LockRank::kLeaf);
  EXPECT_DEATH(
      {
        vm.Lock();
        leaf.Lock();
        vm.Unlock();  // Leaves kLeaf, which is not the one taken first.
        page.Lock();
        page.Unlock();
        leaf.Unlock();
      },
      "taking the kPage lock at .* while holding the kLeaf lock at");
}

TEST_F(LockRankDeathTest, ALockThatWasTriedCounts) {
  Mutex vm(LockRank::kVm);
  Mutex leaf(LockRank::kLeaf);
  EXPECT_DEATH(
      {
        if (leaf.TryLock()) {
          MutexLock hold(&vm);
          leaf.Unlock();
        }
      },
      "taking the kVm lock at .* while holding the kLeaf lock at");
}

void LockTwice(Mutex* mutex) BREAKS_THE_RULES {
  mutex->Lock();
  mutex->Lock();
}

void TryWhileHeld(Mutex* mutex) BREAKS_THE_RULES {
  mutex->Lock();
  static_cast<void>(mutex->TryLock());
}

void ReadTwice(SharedMutex* mutex) BREAKS_THE_RULES {
  mutex->ReaderLock();
  mutex->ReaderLock();
}

void UnlockUnheld(Mutex* mutex) BREAKS_THE_RULES { mutex->Unlock(); }

TEST_F(LockRankDeathTest, TakingALockTwiceDies) {
  Mutex page(LockRank::kPage);
  SharedMutex vm(LockRank::kVm);
  EXPECT_DEATH(LockTwice(&page), "kPage lock .* which this thread holds");
  EXPECT_DEATH(TryWhileHeld(&page), "kPage lock .* which this thread holds");
  EXPECT_DEATH(ReadTwice(&vm), "kVm lock .* which this thread holds");
}

TEST_F(LockRankDeathTest, ReleasingAnUnheldLockDies) {
  Mutex vm(LockRank::kVm);
  EXPECT_DEATH(UnlockUnheld(&vm), "releasing a lock that is not held");
}

TEST_F(LockRankDeathTest, AssertHeldDiesWhenTheLockIsNotHeld) {
  Mutex mutex(LockRank::kVm);
  SharedMutex shared(LockRank::kVm);
  SpinLock spin(LockRank::kVm);
  EXPECT_DEATH(mutex.AssertHeld(), "does not hold the kVm lock");
  EXPECT_DEATH(shared.AssertHeld(), "does not hold the kVm lock");
  EXPECT_DEATH(shared.AssertReaderHeld(), "does not hold the kVm lock");
  EXPECT_DEATH(spin.AssertHeld(), "does not hold the kVm lock");
}

void AssertHeldUnderReader(SharedMutex* mutex) BREAKS_THE_RULES {
  mutex->ReaderLock();
  mutex->AssertHeld();
}

TEST_F(LockRankDeathTest, AssertHeldDiesWhenOnlyAReaderHoldsTheLock) {
  SharedMutex mutex(LockRank::kVm);
  EXPECT_DEATH(AssertHeldUnderReader(&mutex), "shared, not exclusively");
}

TEST_F(LockRankDeathTest, AssertHeldDiesWhenAnotherThreadHoldsTheLock) {
  Mutex mutex(LockRank::kVm);
  EXPECT_DEATH(
      {
        MutexLock hold(&mutex);
        std::thread([&] { mutex.AssertHeld(); }).join();
      },
      "does not hold the kVm lock");
}

TEST(MutexTest, AssertHeldAcceptsTheHolder) {
  Mutex mutex(LockRank::kVm);
  MutexLock hold(&mutex);
  mutex.AssertHeld();
}

TEST(MutexTest, TryLockFailsWhileAnotherThreadHolds) {
  Mutex mutex(LockRank::kVm);
  bool taken = true;
  {
    MutexLock hold(&mutex);
    std::thread([&] { taken = CanLock(&mutex); }).join();
  }
  EXPECT_FALSE(taken);
}

TEST(MutexTest, ContendedWhileAnotherThreadWaits) {
  Mutex mutex(LockRank::kVm);
  EXPECT_FALSE(mutex.Contended());
  std::thread waiter;
  {
    MutexLock hold(&mutex);
    EXPECT_FALSE(mutex.Contended()) << "the holder does not wait";
    waiter = std::thread([&] { MutexLock wait(&mutex); });
    AwaitContention(mutex);
  }
  waiter.join();
  EXPECT_FALSE(mutex.Contended());
}

TEST(MutexTest, LockBreakLetsTheWaiterIn) {
  Mutex mutex(LockRank::kVm);
  bool waiter_was_in = false;
  MutexLock hold(&mutex);
  std::thread waiter([&] {
    MutexLock wait(&mutex);
    waiter_was_in = true;
  });
  AwaitContention(mutex);
  EXPECT_FALSE(waiter_was_in);
  hold.Unlock();
  waiter.join();
  hold.Lock();
  EXPECT_TRUE(waiter_was_in);
}

TEST(MutexTest, ScopeThatLetGoEarlyDoesNotUnlockTwice) {
  Mutex mutex(LockRank::kVm);
  {
    MutexLock hold(&mutex);
    hold.Unlock();
  }
  EXPECT_TRUE(CanLock(&mutex));
}

TEST(SharedMutexTest, ReadersShareAndWritersDoNot) {
  SharedMutex mutex(LockRank::kVm);
  bool read = false;
  bool written = true;
  {
    ReaderMutexLock hold(&mutex);
    mutex.AssertReaderHeld();
    std::thread([&] {
      read = CanReaderLock(&mutex);
      written = CanLock(&mutex);
    }).join();
  }
  EXPECT_TRUE(read);
  EXPECT_FALSE(written);
}

TEST(SharedMutexTest, WriterKeepsReadersOut) {
  SharedMutex mutex(LockRank::kVm);
  bool read = true;
  {
    WriterMutexLock hold(&mutex);
    mutex.AssertHeld();
    mutex.AssertReaderHeld();
    std::thread([&] { read = CanReaderLock(&mutex); }).join();
  }
  EXPECT_FALSE(read);
}

TEST(SharedMutexTest, IsOpenToReadersAgainAfterAWriter) {
  SharedMutex mutex(LockRank::kVm);
  { WriterMutexLock hold(&mutex); }
  EXPECT_TRUE(CanReaderLock(&mutex));
}

TEST(SharedMutexTest, ContendedWhileAWriterWaitsForReaders) {
  SharedMutex mutex(LockRank::kVm);
  std::thread writer;
  {
    ReaderMutexLock hold(&mutex);
    EXPECT_FALSE(mutex.Contended());
    writer = std::thread([&] { WriterMutexLock wait(&mutex); });
    AwaitContention(mutex);
  }
  writer.join();
  EXPECT_FALSE(mutex.Contended());
}

TEST(SharedMutexTest, ContendedWhileAReaderWaitsForTheWriter) {
  SharedMutex mutex(LockRank::kVm);
  std::thread reader;
  {
    WriterMutexLock hold(&mutex);
    reader = std::thread([&] { ReaderMutexLock wait(&mutex); });
    AwaitContention(mutex);
  }
  reader.join();
  EXPECT_FALSE(mutex.Contended());
}

TEST(SharedMutexTest, AReaderOfAnyStripeKeepsWritersOut) {
  constexpr unsigned kStripes = 3;  // four are made of them
  SharedMutex mutex(LockRank::kVm, kStripes);
  for (unsigned stripe = 0; stripe < 9; ++stripe) {
    bool written = true;
    bool read = false;
    {
      ReaderMutexLock hold(&mutex, stripe);
      std::thread([&] {
        written = CanLock(&mutex);
        read = CanReaderLock(&mutex);
      }).join();
    }
    EXPECT_FALSE(written) << stripe;
    EXPECT_TRUE(read) << stripe;
    EXPECT_TRUE(CanLock(&mutex)) << stripe;
  }
}

TEST(SpinLockTest, TryLockFailsWhileHeld) {
  SpinLock lock(LockRank::kLeaf);
  bool taken = true;
  {
    SpinLockHolder hold(&lock);
    lock.AssertHeld();
    std::thread([&] { taken = CanLock(&lock); }).join();
  }
  EXPECT_FALSE(taken);
}

TEST(SpinLockTest, TakesOneByteInReleaseBuilds) {
  if (kDebugChecks)
    GTEST_SKIP() << "in debug builds the rank takes room beside it";
  EXPECT_EQ(sizeof(SpinLock), 1u);
}

}  // namespace
}  // namespace shadowmmu
