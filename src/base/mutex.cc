#include "src/base/mutex.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <mutex>
#include <thread>

#include "src/base/lock_rank.h"

namespace shadowmmu {
namespace {

// Tells the CPU that this is a wait: it saves power, and gives a hyperthread
// that shares the core, perhaps the holder, more of it.
inline void Pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Some microseconds: longer than any spinning section, unless its holder was
// preempted.
constexpr int kSpinsBeforeYield = 128;

}  // namespace

bool Mutex::TryLock() {
  order_.WillTry();
  if (!mutex_.try_lock()) return false;
  order_.Acquired(LockMode::kExclusive);
  if (times_ != nullptr) times_->Begin();
  return true;
}

void Mutex::LockSlow() {
  WaiterCount::Scope waiting(&waiters_);
  mutex_.lock();
}

SharedMutex::SharedMutex(LockRank rank, unsigned stripes)
    : stripe_mask_(std::bit_ceil(std::max(stripes, 1u)) - 1),
      stripes_(new Stripe[stripe_mask_ + 1]),
      order_(rank) {}

bool SharedMutex::TryLock() {
  order_.WillTry();
  if (!mutex_.try_lock()) return false;
  closed_.store(true, std::memory_order_seq_cst);
  if (AnyInside()) {
    closed_.store(false, std::memory_order_seq_cst);
    mutex_.unlock();
    return false;
  }
  order_.Acquired(LockMode::kExclusive);
  if (times_ != nullptr) times_->Begin();
  return true;
}

bool SharedMutex::ReaderTryLock(unsigned stripe) {
  order_.WillTry();
  if (!TryEnter(stripe)) return false;
  order_.Acquired(LockMode::kShared);
  return true;
}

bool SharedMutex::AnyInside() const {
  for (unsigned i = 0; i <= stripe_mask_; ++i) {
    if (stripes_[i].inside.load(std::memory_order_seq_cst) != 0) return true;
  }
  return false;
}

void SharedMutex::LockSlow() {
  WaiterCount::Scope waiting(&waiters_);
  mutex_.lock();
}

// A reader that counts itself for a moment, finds the flag, and goes away again
// may be seen here; it cannot do so for ever, because it waits for mutex_ then.
void SharedMutex::AwaitReaders() {
  WaiterCount::Scope waiting(&waiters_);
  for (int spins = 0; AnyInside(); ++spins) {
    if (spins < kSpinsBeforeYield) {
      Pause();
    } else {
      std::this_thread::yield();
    }
  }
}

void SharedMutex::ReaderLockSlow(unsigned stripe) {
  WaiterCount::Scope waiting(&waiters_);
  // No writer is inside while this thread has its mutex, and the next one sees
  // the count.
  const std::lock_guard<std::mutex> no_writer(mutex_);
  Inside(stripe).fetch_add(1, std::memory_order_seq_cst);
}

bool SpinLock::TryLock() {
  order_.WillTry();
  if (held_.exchange(true, std::memory_order_acquire)) return false;
  order_.Acquired(LockMode::kExclusive);
  return true;
}

void SpinLock::LockSlow() {
  int spins = 0;
  do {
    // Wait by reading, so that the cache line stays shared until it is free.
    while (held_.load(std::memory_order_relaxed)) {
      if (++spins < kSpinsBeforeYield) {
        Pause();
      } else {
        std::this_thread::yield();
      }
    }
  } while (held_.exchange(true, std::memory_order_acquire));
}

}  // namespace shadowmmu
