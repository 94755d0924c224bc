// SpinLock: what guards the state of boot/ and shim/ against other CPUs.
//
//  1. Interrupts are off wherever one is taken (apic_timer.h), so that no
//     handler can want a lock which the CPU that it interrupts holds.
//  2. None is held for long: for some pages that are set to zero, at most. One
//     that is not to be had for kPatience is a defect, and ends the hypervisor.
//
// Thread safety: any CPU.

#ifndef HYPERVISOR_BOOT_SPIN_LOCK_H_
#define HYPERVISOR_BOOT_SPIN_LOCK_H_

#include <atomic>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "boot/cpu.h"
#include "boot/exit.h"
#include "boot/tsc_clock.h"

namespace hypervisor {

class ABSL_LOCKABLE SpinLock {
 public:
  constexpr SpinLock() = default;
  SpinLock(const SpinLock&) = delete;
  SpinLock& operator=(const SpinLock&) = delete;

  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() {
    constexpr uint64_t kPatience = 60'000'000'000;  // ns
    if (!TryLockFor(kPatience)) ExitBecause("a spin lock is never released");
  }

  // False if it was not to be had for so long.
  bool TryLockFor(uint64_t nanoseconds) ABSL_EXCLUSIVE_TRYLOCK_FUNCTION(true) {
    if (!held_.exchange(true, std::memory_order_acquire)) return true;
    const uint64_t start = MonotonicNanoseconds();
    while (held_.load(std::memory_order_relaxed) ||
           held_.exchange(true, std::memory_order_acquire)) {
      Pause();
      if (MonotonicNanoseconds() - start > nanoseconds) return false;
    }
    return true;
  }

  void Unlock() ABSL_UNLOCK_FUNCTION() {
    held_.store(false, std::memory_order_release);
  }

 private:
  std::atomic<bool> held_ = false;
};

// Holds one for a scope.
class ABSL_SCOPED_LOCKABLE SpinLockScope {
 public:
  explicit SpinLockScope(SpinLock& lock) ABSL_EXCLUSIVE_LOCK_FUNCTION(lock)
      : lock_(lock) {
    lock_.Lock();
  }
  ~SpinLockScope() ABSL_UNLOCK_FUNCTION() { lock_.Unlock(); }
  SpinLockScope(const SpinLockScope&) = delete;
  SpinLockScope& operator=(const SpinLockScope&) = delete;

 private:
  SpinLock& lock_;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_BOOT_SPIN_LOCK_H_
