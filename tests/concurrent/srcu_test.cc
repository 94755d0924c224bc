// Srcu with real threads: a reader inside holds up Synchronize, and what it
// protects is never seen freed. The values are plain memory, so ThreadSanitizer
// and AddressSanitizer both see a grace period that is too short.

#include "src/base/srcu.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "src/base/lock_rank.h"
#include "src/base/mutex.h"

namespace shadowmmu {

// Enters as a reader does that was delayed between its two steps.
class SrcuTestPeer {
 public:
  static unsigned ReadSelector(const Srcu& srcu) { return srcu.selector_ & 1; }
  static int EnterSelected(Srcu* srcu, unsigned selector) {
    return srcu->EnterSelected(selector);
  }
};

namespace {

// Long enough for a Synchronize that does not wait to have returned.
constexpr std::chrono::milliseconds kAWhile{20};

void AwaitTrue(const std::atomic<bool>& flag) {
  while (!flag.load()) std::this_thread::yield();
}

// A call of Synchronize on its own thread.
class Synchronizer {
 public:
  explicit Synchronizer(Srcu* srcu)
      : thread_([this, srcu] {
          started_.store(true);
          srcu->Synchronize();
          done_.store(true);
        }) {
    AwaitTrue(started_);
  }
  ~Synchronizer() {
    if (thread_.joinable()) thread_.join();
  }
  Synchronizer(const Synchronizer&) = delete;
  Synchronizer& operator=(const Synchronizer&) = delete;

  bool DoneAfterAWhile() const {
    std::this_thread::sleep_for(kAWhile);
    return done_.load();
  }
  void Join() { thread_.join(); }

 private:
  std::atomic<bool> started_{false};
  std::atomic<bool> done_{false};
  std::thread thread_;  // Last: it uses the others.
};

TEST(SrcuTest, SynchronizeWithoutReadersReturns) {
  Srcu srcu;
  for (int i = 0; i < 100; ++i) srcu.Synchronize();
}

TEST(SrcuTest, ReaderInsideHoldsUpSynchronize) {
  Srcu srcu;
  const int ticket = srcu.Enter();
  Synchronizer synchronizer(&srcu);
  EXPECT_FALSE(synchronizer.DoneAfterAWhile());
  srcu.Leave(ticket);
  synchronizer.Join();
}

TEST(SrcuTest, ReaderHoldsUpSynchronizeWhateverTheSelector) {
  Srcu srcu;
  // Each complete Synchronize flips twice; a waiting one has flipped once. So
  // readers that enter now and while one waits are in different counters.
  const int first = srcu.Enter();
  Synchronizer one(&srcu);
  EXPECT_FALSE(one.DoneAfterAWhile());
  const int second = srcu.Enter();
  EXPECT_NE(first, second);
  Synchronizer two(&srcu);
  srcu.Leave(first);
  EXPECT_FALSE(two.DoneAfterAWhile());
  srcu.Leave(second);
  one.Join();
  two.Join();
}

TEST(SrcuTest, ReaderThatEntersByAnOldSelectorHoldsUpSynchronize) {
  for (unsigned flips = 0; flips < 2; ++flips) {
    Srcu srcu;
    const unsigned selector = SrcuTestPeer::ReadSelector(srcu) ^ flips;
    const int ticket = SrcuTestPeer::EnterSelected(&srcu, selector);
    Synchronizer synchronizer(&srcu);
    EXPECT_FALSE(synchronizer.DoneAfterAWhile()) << "selector " << selector;
    srcu.Leave(ticket);
    synchronizer.Join();
  }
}

TEST(SrcuTest, SectionsNest) {
  Srcu srcu;
  const int outer = srcu.Enter();
  const int inner = srcu.Enter();
  Synchronizer synchronizer(&srcu);
  srcu.Leave(inner);
  EXPECT_FALSE(synchronizer.DoneAfterAWhile());
  srcu.Leave(outer);
  synchronizer.Join();
}

TEST(SrcuTest, ReaderThatEntersWhileAnotherIsWaitedForDoesNotWait) {
  Srcu srcu;
  const int ticket = srcu.Enter();
  Synchronizer synchronizer(&srcu);
  EXPECT_FALSE(synchronizer.DoneAfterAWhile());
  { SrcuReader reader(&srcu); }
  srcu.Leave(ticket);
  synchronizer.Join();
}

TEST(SrcuTest, SectionMayEndOnAnotherThread) {
  Srcu srcu;
  const int ticket = srcu.Enter();
  std::thread([&] { srcu.Leave(ticket); }).join();
  srcu.Synchronize();
}

TEST(SrcuTest, SynchronizeUnderSlotsUpdateIsInOrder) {
  Srcu srcu;
  Mutex slots(LockRank::kSlotsUpdate);
  MutexLock hold(&slots);
  srcu.Synchronize();
}

TEST(SrcuDeathTest, SynchronizeUnderTheVmLockDies) {
#ifdef NDEBUG
  GTEST_SKIP() << "this check is of debug builds only";
#endif
  Srcu srcu;
  Mutex vm(LockRank::kVm);
  EXPECT_DEATH(
      {
        MutexLock hold(&vm);
        srcu.Synchronize();
      },
      "taking the kSrcu lock at .* while holding the kVm lock at");
}

TEST(SrcuDeathTest, LeavingTwiceDies) {
  Srcu srcu;
  EXPECT_DEATH(
      {
        const int ticket = srcu.Enter();
        srcu.Leave(ticket);
        srcu.Leave(ticket);
      },
      "never entered");
}

TEST(SrcuDeathTest, DyingWithAReaderInsideDies) {
  EXPECT_DEATH(
      {
        Srcu srcu;
        static_cast<void>(srcu.Enter());
      },
      "a reader is inside");
}

// A value that readers check: alive has one pattern, freed another.
struct Value {
  static constexpr std::uint64_t kAlive = 0x5ADD0111'CAFEF00D;
  static constexpr std::uint64_t kFreed = 0xDEADDEAD'DEADDEAD;
  std::uint64_t state = kAlive;
};

TEST(SrcuTest, ProtectedValuesAreNeverSeenFreed) {
  constexpr int kReaders = 3;
  constexpr int kUpdaters = 2;
  constexpr int kUpdates = 100;
  Srcu srcu;
  // Release and acquire only: the grace period must not lean on seq_cst.
  std::atomic<Value*> published{new Value};
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> bad_reads{0};
  std::atomic<int> readers_at_work{0};

  std::vector<std::thread> readers;
  for (int i = 0; i < kReaders; ++i) {
    readers.emplace_back([&, i] {
      bool counted = false;
      while (!stop.load(std::memory_order_relaxed)) {
        SrcuReader reader(&srcu);
        const Value* value = published.load(std::memory_order_acquire);
        // Some readers sleep inside, so that grace periods really wait.
        if (i == 0) std::this_thread::yield();
        if (value->state != Value::kAlive) bad_reads.fetch_add(1);
        if (!counted) readers_at_work.fetch_add(1);
        counted = true;
      }
    });
  }
  while (readers_at_work.load() < kReaders) std::this_thread::yield();
  std::vector<std::thread> updaters;
  for (int i = 0; i < kUpdaters; ++i) {
    updaters.emplace_back([&] {
      for (int update = 0; update < kUpdates; ++update) {
        std::unique_ptr<Value> old(
            published.exchange(new Value, std::memory_order_acq_rel));
        srcu.Synchronize();
        old->state = Value::kFreed;
      }
    });
  }
  for (std::thread& updater : updaters) updater.join();
  stop.store(true);
  for (std::thread& reader : readers) reader.join();
  delete published.load();
  EXPECT_EQ(bad_reads.load(), 0u);
}

}  // namespace
}  // namespace shadowmmu
