#include "src/base/mutex.h"

#include <pthread.h>

#include <atomic>
#include <thread>

#include "src/base/check.h"
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

SharedMutex::SharedMutex(LockRank rank) : order_(rank) {
  pthread_rwlockattr_t attributes;
  SMMU_CHECK_EQ(pthread_rwlockattr_init(&attributes), 0);
#ifdef __GLIBC__
  SMMU_CHECK_EQ(pthread_rwlockattr_setkind_np(
                    &attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP),
                0);
#endif
  SMMU_CHECK_EQ(pthread_rwlock_init(&rwlock_, &attributes), 0);
  SMMU_CHECK_EQ(pthread_rwlockattr_destroy(&attributes), 0);
}

SharedMutex::~SharedMutex() {
  SMMU_CHECK_EQ(pthread_rwlock_destroy(&rwlock_), 0);
}

void SharedMutex::Lock() {
  order_.WillWait();
  if (pthread_rwlock_trywrlock(&rwlock_) != 0) {
    WaiterCount::Scope waiting(&waiters_);
    SMMU_CHECK_EQ(pthread_rwlock_wrlock(&rwlock_), 0);
  }
  order_.Acquired(LockMode::kExclusive);
}

bool SharedMutex::TryLock() {
  order_.WillTry();
  if (pthread_rwlock_trywrlock(&rwlock_) != 0) return false;
  order_.Acquired(LockMode::kExclusive);
  return true;
}

void SharedMutex::Unlock() {
  order_.CheckHeld(LockMode::kExclusive);
  order_.Released();
  SMMU_CHECK_EQ(pthread_rwlock_unlock(&rwlock_), 0);
}

void SharedMutex::ReaderLock() {
  order_.WillWait();
  if (pthread_rwlock_tryrdlock(&rwlock_) != 0) {
    WaiterCount::Scope waiting(&waiters_);
    SMMU_CHECK_EQ(pthread_rwlock_rdlock(&rwlock_), 0);
  }
  order_.Acquired(LockMode::kShared);
}

bool SharedMutex::ReaderTryLock() {
  order_.WillTry();
  if (pthread_rwlock_tryrdlock(&rwlock_) != 0) return false;
  order_.Acquired(LockMode::kShared);
  return true;
}

void SharedMutex::ReaderUnlock() {
  order_.Released();
  SMMU_CHECK_EQ(pthread_rwlock_unlock(&rwlock_), 0);
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
