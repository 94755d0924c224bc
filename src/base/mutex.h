// The locks of the library and the scopes that hold them:
//
//   Mutex         MutexLock                            waits in the kernel
//   SharedMutex   ReaderMutexLock, WriterMutexLock     many readers, or one
//   writer SpinLock      SpinLockHolder                       one byte, never
//   sleeps
//                                                      for long
//
//   Mutex mu_{LockRank::kLeaf};
//   int count_ ABSL_GUARDED_BY(mu_) = 0;
//   ...
//   MutexLock lock(&mu_);
//   ++count_;
//
//  1. Each lock has a rank, and debug builds check the order (lock_rank.h).
//  2. None may be taken twice by one thread.
//  3. AssertHeld tells clang's thread-safety analysis that the lock is held,
//     and in debug builds checks that it is so.
//  4. Contended() is a hint for lock breaks: it may be stale, and is never
//     wrong for long. A walk that finds it true unlocks, yields and locks
//     again; at that moment nothing half-done may be visible.
//
// Why not absl::Mutex: distributions ship it with deadlock detection compiled
// in and without sanitizer annotations; the first is slow, the second makes
// ThreadSanitizer report correct code. These wrap std::mutex and atomics, which
// it knows.

#ifndef SHADOWMMU_BASE_MUTEX_H_
#define SHADOWMMU_BASE_MUTEX_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>

#include "absl/base/optimization.h"
#include "absl/base/thread_annotations.h"
#include "src/base/hold_times.h"
#include "src/base/lock_rank.h"

namespace shadowmmu {

// How many threads wait for a lock now. Counts the slow path only: an
// acquisition that finds the lock free does not touch it. Relaxed, because it
// orders nothing.
class WaiterCount {
 public:
  // Counts the calling thread from here to the end of the scope.
  class Scope {
   public:
    explicit Scope(WaiterCount* count) : count_(count->count_) {
      count_.fetch_add(1, std::memory_order_relaxed);
    }
    ~Scope() { count_.fetch_sub(1, std::memory_order_relaxed); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    std::atomic<std::uint32_t>& count_;
  };

  bool any() const { return count_.load(std::memory_order_relaxed) != 0; }

 private:
  std::atomic<std::uint32_t> count_{0};
};

// A mutual exclusion lock that sleeps in the kernel while it waits.
class ABSL_LOCKABLE Mutex {
 public:
  explicit Mutex(LockRank rank) : order_(rank) {}
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() {
    order_.WillWait();
    if (ABSL_PREDICT_FALSE(!mutex_.try_lock())) LockSlow();
    order_.Acquired(LockMode::kExclusive);
  }

  bool TryLock() ABSL_EXCLUSIVE_TRYLOCK_FUNCTION(true);

  void Unlock() ABSL_UNLOCK_FUNCTION() {
    order_.Released();
    mutex_.unlock();
  }

  void AssertHeld() const ABSL_ASSERT_EXCLUSIVE_LOCK() {
    order_.CheckHeld(LockMode::kExclusive);
  }

  // Whether another thread waits for this lock now. Usable without holding it.
  bool Contended() const { return waiters_.any(); }

 private:
  void LockSlow();

  std::mutex mutex_;
  WaiterCount waiters_;
  [[no_unique_address]] LockOrder order_;
};

// Holds a Mutex for a scope. May let go early, and take it again.
class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(Mutex* mutex) ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex)
      : mutex_(mutex), held_(true) {
    mutex_->Lock();
  }
  ~MutexLock() ABSL_UNLOCK_FUNCTION() {
    if (held_) mutex_->Unlock();
  }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

  void Unlock() ABSL_UNLOCK_FUNCTION() {
    mutex_->Unlock();
    held_ = false;
  }
  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() {
    mutex_->Lock();
    held_ = true;
  }

 private:
  Mutex* const mutex_;
  bool held_;
};

// Many readers or one writer. Each reader writes a cache line of its own, if
// the readers name different stripes, so that they do not slow each other down;
// the writer pays for it, with a look at each stripe.
//
// Nobody starves: writers come in the order in which they asked; one that waits
// for readers holds back new ones; and readers that waited for a writer come
// before the next. So a walk that unlocks and locks again lets in whoever
// waited. All wait by spinning, then by giving up the CPU again and again: for
// sections that are short, or at least bounded.
class ABSL_LOCKABLE SharedMutex {
 public:
  explicit SharedMutex(LockRank rank, unsigned stripes = 1);
  ~SharedMutex() = default;
  SharedMutex(const SharedMutex&) = delete;
  SharedMutex& operator=(const SharedMutex&) = delete;

  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() {
    order_.WillWait();
    const std::uint32_t turn = next_.fetch_add(1, std::memory_order_relaxed);
    if (ABSL_PREDICT_FALSE(!MayGo(turn))) AwaitTurn(turn);
    Close();
    order_.Acquired(LockMode::kExclusive);
    if (ABSL_PREDICT_FALSE(times_ != nullptr)) times_->Begin();
  }
  bool TryLock() ABSL_EXCLUSIVE_TRYLOCK_FUNCTION(true);
  void Unlock() ABSL_UNLOCK_FUNCTION() {
    order_.CheckHeld(LockMode::kExclusive);
    if (ABSL_PREDICT_FALSE(times_ != nullptr)) times_->End();
    order_.Released();
    Open();
  }

  // `stripe` may be any number; ReaderUnlock needs the same.
  void ReaderLock(unsigned stripe = 0) ABSL_SHARED_LOCK_FUNCTION() {
    order_.WillWait();
    if (ABSL_PREDICT_FALSE(!TryEnter(stripe))) ReaderLockSlow(stripe);
    order_.Acquired(LockMode::kShared);
  }
  bool ReaderTryLock(unsigned stripe = 0) ABSL_SHARED_TRYLOCK_FUNCTION(true);
  void ReaderUnlock(unsigned stripe = 0) ABSL_UNLOCK_FUNCTION() {
    order_.Released();
    Inside(stripe).fetch_sub(1, std::memory_order_release);
  }

  void AssertHeld() const ABSL_ASSERT_EXCLUSIVE_LOCK() {
    order_.CheckHeld(LockMode::kExclusive);
  }
  void AssertReaderHeld() const ABSL_ASSERT_SHARED_LOCK() {
    order_.CheckHeld(LockMode::kShared);
  }

  // Whether another thread, reader or writer, waits for this lock now.
  bool Contended() const { return waiters_.any(); }

  // From now on `times`, which outlives this, learns of each hold of a writer.
  // Before any other thread has the lock.
  void Measure(HoldTimes* times) { times_ = times; }

 private:
  struct alignas(64) Stripe {
    std::atomic<std::uint32_t> inside{0};
  };

  std::atomic<std::uint32_t>& Inside(unsigned stripe) {
    return stripes_[stripe & stripe_mask_].inside;
  }
  // The reader counts itself, then looks at the flag; the writer raises the
  // flag, then looks at the counts. All four are seq_cst: one sees the other.
  bool TryEnter(unsigned stripe) {
    Inside(stripe).fetch_add(1, std::memory_order_seq_cst);
    if (ABSL_PREDICT_TRUE(!closed_.load(std::memory_order_seq_cst))) {
      return true;
    }
    Inside(stripe).fetch_sub(1, std::memory_order_release);
    return false;
  }
  bool AnyInside() const;
  // Whether it is this writer's turn, and no reader waits to come before it.
  bool MayGo(std::uint32_t turn) const {
    return serving_.load(std::memory_order_acquire) == turn &&
           readers_waiting_.load(std::memory_order_relaxed) == 0;
  }
  // By the writer whose turn it is: keeps readers out, and waits for those
  // inside.
  void Close() {
    closed_.store(true, std::memory_order_seq_cst);
    if (ABSL_PREDICT_FALSE(AnyInside())) AwaitReaders();
  }
  // Lets readers in, and then the next writer.
  void Open() {
    closed_.store(false, std::memory_order_seq_cst);
    serving_.store(serving_.load(std::memory_order_relaxed) + 1,
                   std::memory_order_release);
  }
  void AwaitTurn(std::uint32_t turn);
  void ReaderLockSlow(unsigned stripe);
  void AwaitReaders();

  // Turns of writers: the next to be had, and whose it is. They come round.
  std::atomic<std::uint32_t> next_{0};
  std::atomic<std::uint32_t> serving_{0};
  std::atomic<bool> closed_{false};
  // Of those that found it closed, and have not come in yet.
  std::atomic<std::uint32_t> readers_waiting_{0};
  const unsigned stripe_mask_;
  const std::unique_ptr<Stripe[]> stripes_;
  WaiterCount waiters_;
  HoldTimes* times_ = nullptr;
  [[no_unique_address]] LockOrder order_;
};

// Holds a SharedMutex shared for a scope.
class ABSL_SCOPED_LOCKABLE ReaderMutexLock {
 public:
  explicit ReaderMutexLock(SharedMutex* mutex, unsigned stripe = 0)
      ABSL_SHARED_LOCK_FUNCTION(mutex)
      : mutex_(mutex), stripe_(stripe) {
    mutex_->ReaderLock(stripe_);
  }
  ~ReaderMutexLock() ABSL_UNLOCK_FUNCTION() { mutex_->ReaderUnlock(stripe_); }
  ReaderMutexLock(const ReaderMutexLock&) = delete;
  ReaderMutexLock& operator=(const ReaderMutexLock&) = delete;

 private:
  SharedMutex* const mutex_;
  const unsigned stripe_;
};

// Holds a SharedMutex exclusively for a scope.
class ABSL_SCOPED_LOCKABLE WriterMutexLock {
 public:
  explicit WriterMutexLock(SharedMutex* mutex)
      ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex)
      : mutex_(mutex) {
    mutex_->Lock();
  }
  ~WriterMutexLock() ABSL_UNLOCK_FUNCTION() { mutex_->Unlock(); }
  WriterMutexLock(const WriterMutexLock&) = delete;
  WriterMutexLock& operator=(const WriterMutexLock&) = delete;

 private:
  SharedMutex* const mutex_;
};

// A lock of one byte (in release builds) for sections of a few instructions.
// Waits by spinning, then by giving up the CPU again and again, so a holder
// that was preempted can run. No Host call is made, and nothing is allocated,
// under one.
class ABSL_LOCKABLE SpinLock {
 public:
  constexpr explicit SpinLock(LockRank rank) : order_(rank) {}
  SpinLock(const SpinLock&) = delete;
  SpinLock& operator=(const SpinLock&) = delete;

  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() {
    order_.WillWait();
    if (ABSL_PREDICT_FALSE(held_.exchange(true, std::memory_order_acquire))) {
      LockSlow();
    }
    order_.Acquired(LockMode::kExclusive);
  }

  bool TryLock() ABSL_EXCLUSIVE_TRYLOCK_FUNCTION(true);

  void Unlock() ABSL_UNLOCK_FUNCTION() {
    order_.Released();
    held_.store(false, std::memory_order_release);
  }

  void AssertHeld() const ABSL_ASSERT_EXCLUSIVE_LOCK() {
    order_.CheckHeld(LockMode::kExclusive);
  }

 private:
  void LockSlow();

  std::atomic<bool> held_{false};
  [[no_unique_address]] LockOrder order_;
};

// Holds a SpinLock for a scope.
class ABSL_SCOPED_LOCKABLE SpinLockHolder {
 public:
  explicit SpinLockHolder(SpinLock* lock) ABSL_EXCLUSIVE_LOCK_FUNCTION(lock)
      : lock_(lock) {
    lock_->Lock();
  }
  ~SpinLockHolder() ABSL_UNLOCK_FUNCTION() { lock_->Unlock(); }
  SpinLockHolder(const SpinLockHolder&) = delete;
  SpinLockHolder& operator=(const SpinLockHolder&) = delete;

 private:
  SpinLock* const lock_;
};

}  // namespace shadowmmu

#endif  // SHADOWMMU_BASE_MUTEX_H_
