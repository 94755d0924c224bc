#include "shim/futex.h"

#include <asm/errno.h>
#include <linux/futex.h>
#include <linux/time_types.h>

#include <atomic>
#include <optional>

#include "boot/apic_timer.h"
#include "boot/console.h"
#include "boot/exit.h"
#include "boot/per_cpu.h"
#include "boot/processors.h"
#include "boot/spin_lock.h"
#include "boot/tsc_clock.h"
#include "shim/threads.h"
#include "shim/time_calls.h"

namespace hypervisor {
namespace {

constinit SpinLock lock;

// A CPU's thread that waits. `word` is nullptr when it does not (any more).
struct Waiter {
  std::atomic<const uint32_t*> word = nullptr;
  uint32_t bits ABSL_GUARDED_BY(lock) = 0;
  uint64_t turn ABSL_GUARDED_BY(lock) = 0;
  bool for_ever ABSL_GUARDED_BY(lock) = false;
  uint64_t caller ABSL_GUARDED_BY(lock) = 0;
};

constinit Waiter waiters[kMaxCpus];
constinit uint64_t next_turn ABSL_GUARDED_BY(lock) = 0;

// Of those that one of `bits` is for, the one that waits longest.
Waiter* Longest(const uint32_t* word, uint32_t bits)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock) {
  Waiter* longest = nullptr;
  for (Waiter& waiter : waiters) {
    if (waiter.word.load() != word || (waiter.bits & bits) == 0) continue;
    if (longest == nullptr || waiter.turn < longest->turn) longest = &waiter;
  }
  return longest;
}

int64_t Wake(const uint32_t* word, uint64_t most, uint32_t bits) {
  const SpinLockScope hold(lock);
  int64_t woken = 0;
  while (static_cast<uint64_t>(woken) < most) {
    Waiter* const waiter = Longest(word, bits);
    if (waiter == nullptr) break;
    waiter->word.store(nullptr);
    WakeCpu(static_cast<uint32_t>(waiter - waiters));
    ++woken;
  }
  return woken;
}

void EndIfAllWait() ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock) {
  uint32_t count = 0;
  for (const Waiter& waiter : waiters) {
    if (waiter.word.load() != nullptr && waiter.for_ever) ++count;
  }
  if (count == 0 || count < RunningThreads()) return;
  for (const Waiter& waiter : waiters) {
    if (waiter.word.load() == nullptr) continue;
    ConsoleWrite("hypervisor: a futex wait, called before ");
    ConsoleWriteHex(waiter.caller);
    ConsoleWrite(", on ");
    ConsoleWriteHex(reinterpret_cast<uintptr_t>(waiter.word.load()));
    ConsoleWrite("\n");
  }
  ExitBecause("deadlock: nobody is there to end the wait");
}

// Enters the list; false: the word is another already.
bool Enter(Waiter& waiter, const uint32_t* word, uint32_t value, uint32_t bits,
           bool for_ever, uint64_t caller) {
  const SpinLockScope hold(lock);
  if (__atomic_load_n(word, __ATOMIC_SEQ_CST) != value) return false;
  waiter.bits = bits;
  waiter.turn = next_turn++;
  waiter.for_ever = for_ever;
  waiter.caller = caller;
  waiter.word.store(word);
  EndIfAllWait();
  return true;
}

// The time is over; false: it was woken at the last moment.
bool GiveUp(Waiter& waiter) {
  const SpinLockScope hold(lock);
  return waiter.word.exchange(nullptr) != nullptr;
}

int64_t Wait(const uint32_t* word, uint32_t value, uint32_t bits,
             std::optional<uint64_t> deadline, uint64_t caller) {
  Waiter& waiter = waiters[CpuIndex()];
  if (!Enter(waiter, word, value, bits, !deadline.has_value(), caller)) {
    return -EAGAIN;
  }
  const uint64_t armed_before = TimerArmedFor();
  int64_t result = 0;
  while (waiter.word.load() != nullptr) {
    if (deadline) {
      const uint64_t now = MonotonicNanoseconds();
      if (now >= *deadline) {
        if (GiveUp(waiter)) result = -ETIMEDOUT;
        break;
      }
      ArmTimer(*deadline - now);
    }
    WaitForInterrupt();
  }
  if (deadline) RearmTimer(armed_before);
  return result;
}

}  // namespace

int64_t FutexCall(const SyscallFrame& frame) {
  const uint64_t* const a = frame.arguments;
  const auto* const word = reinterpret_cast<const uint32_t*>(a[0]);
  const auto value = static_cast<uint32_t>(a[2]);
  const uint64_t operation = a[1] & static_cast<uint64_t>(FUTEX_CMD_MASK);
  const bool has_bits =
      operation == FUTEX_WAIT_BITSET || operation == FUTEX_WAKE_BITSET;
  const uint32_t bits =
      has_bits ? static_cast<uint32_t>(a[5]) : FUTEX_BITSET_MATCH_ANY;
  if (bits == 0) return -EINVAL;
  switch (operation) {
    case FUTEX_WAKE:
    case FUTEX_WAKE_BITSET:
      return Wake(word, value, bits);
    case FUTEX_WAIT:
    case FUTEX_WAIT_BITSET:
      break;
    default:
      return -ENOSYS;
  }
  const auto* const timeout = reinterpret_cast<const __kernel_timespec*>(a[3]);
  std::optional<uint64_t> deadline;
  if (timeout != nullptr) {
    if (!IsValidTime(*timeout)) return -EINVAL;
    // FUTEX_WAIT has a time from now, the other one a moment.
    const uint64_t from =
        operation == FUTEX_WAIT ? MonotonicNanoseconds() : uint64_t{0};
    deadline = from + ToNanoseconds(*timeout);
  }
  return Wait(word, value, bits, deadline, frame.rip);
}

void WakeWaiters(const uint32_t* word) {
  Wake(word, ~uint64_t{0}, FUTEX_BITSET_MATCH_ANY);
}

void CheckForDeadlock() {
  const SpinLockScope hold(lock);
  EndIfAllWait();
}

}  // namespace hypervisor
