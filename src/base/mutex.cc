#include "src/base/mutex.h"

#include <algorithm>
#include <atomic>
#include <bit>
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

template <typename Done>
void SpinUntil(Done done) {
  for (int spins = 0; !done(); ++spins) {
    if (spins < kSpinsBeforeYield) {
      Pause();
    } else {
      std::this_thread::yield();
    }
  }
}

}  // namespace

bool Mutex::TryLock() {
  order_.WillTry();
  if (!mutex_.try_lock()) return false;
  order_.Acquired(LockMode::kExclusive);
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
  std::uint32_t turn = serving_.load(std::memory_order_acquire);
  if (!MayGo(turn)) return false;
  if (!next_.compare_exchange_strong(turn, turn + 1,
                                     std::memory_order_relaxed)) {
    return false;
  }
  closed_.store(true, std::memory_order_seq_cst);
  if (AnyInside()) {
    Open();
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

void SharedMutex::AwaitTurn(std::uint32_t turn) {
  WaiterCount::Scope waiting(&waiters_);
  SpinUntil([&] { return MayGo(turn); });
}

// A reader that counts itself for a moment, finds the flag, and goes away again
// may be seen here, and is gone when one looks again.
void SharedMutex::AwaitReaders() {
  WaiterCount::Scope waiting(&waiters_);
  SpinUntil([&] { return !AnyInside(); });
}

// The flag is looked at first: a reader that waits writes nothing that the
// writer looks at.
void SharedMutex::ReaderLockSlow(unsigned stripe) {
  WaiterCount::Scope waiting(&waiters_);
  readers_waiting_.fetch_add(1, std::memory_order_relaxed);
  SpinUntil([&] {
    return !closed_.load(std::memory_order_relaxed) && TryEnter(stripe);
  });
  readers_waiting_.fetch_sub(1, std::memory_order_relaxed);
}

bool SpinLock::TryLock() {
  order_.WillTry();
  if (held_.exchange(true, std::memory_order_acquire)) return false;
  order_.Acquired(LockMode::kExclusive);
  return true;
}

void SpinLock::LockSlow() {
  // Wait by reading, so that the cache line stays shared until it is free.
  SpinUntil([this] {
    return !held_.load(std::memory_order_relaxed) &&
           !held_.exchange(true, std::memory_order_acquire);
  });
}

}  // namespace shadowmmu
