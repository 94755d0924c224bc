// More CPUs than the one that boots: started by INIT and start-up interrupts,
// each with stacks and a TSS of its own, in the kernel's address space
// (UsePaging comes first), interrupts disabled. The PICs' lines are masked
// then.
//
//   StartCpu(1, Work);        // Work() runs beside what follows
//   ...
//   AwaitCpu(1);              // it has returned
//
// A wait that does not end fails the guest.

#ifndef HYPERVISOR_GUESTS_RUNTIME_PROCESSORS_H_
#define HYPERVISOR_GUESTS_RUNTIME_PROCESSORS_H_

#include <stdint.h>

#include "runtime/cpu.h"
#include "runtime/report.h"

namespace guest {

inline constexpr unsigned kMaxCpus = 4;

// As firmware tells, but kMaxCpus at most.
unsigned CpuCount();

void StartCpu(unsigned cpu, void (*work)());
void AwaitCpu(unsigned cpu);

// Interrupts another CPU, which is started. Handlers of such interrupts end
// with EndOfInterrupt.
void SendInterrupt(unsigned cpu, uint8_t vector);
void SendNmi(unsigned cpu);
void EndOfInterrupt();
// Lets in what is pending.
inline void TakeInterrupts() { asm volatile("sti; nop; cli" ::: "memory"); }

inline void Pause() { asm volatile("pause" ::: "memory"); }
inline uint64_t ReadTsc() {
  uint32_t low;
  uint32_t high;
  asm volatile("rdtsc" : "=a"(low), "=d"(high)::"memory");
  return uint64_t{high} << 32 | low;
}

// Spins until `holds()`. A minute, or so, is too long.
template <typename Condition>
void WaitUntil(Condition holds, const char* what, int line = __builtin_LINE()) {
  constexpr uint64_t kPatience = uint64_t{1} << 37;
  const uint64_t start = ReadTsc();
  while (!holds()) {
    Check(ReadTsc() - start < kPatience, what, line);
    Pause();
  }
}

// Words that CPUs share: all are sequentially consistent.
template <typename T>
T Load(const T& word) {
  return __atomic_load_n(&word, __ATOMIC_SEQ_CST);
}
template <typename T>
void Store(T& word, T value) {
  __atomic_store_n(&word, value, __ATOMIC_SEQ_CST);
}

class SpinLock {
 public:
  constexpr SpinLock() = default;
  void Lock() {
    while (!TryLock()) {
      WaitUntil([&] { return Load(held_) == 0; }, "a lock is released");
    }
  }
  bool TryLock() {
    return __atomic_exchange_n(&held_, 1u, __ATOMIC_SEQ_CST) == 0;
  }
  void Unlock() { Store(held_, 0u); }

 private:
  uint32_t held_ = 0;
};

// Holds one for a scope.
class SpinLockScope {
 public:
  explicit SpinLockScope(SpinLock& lock) : lock_(lock) { lock_.Lock(); }
  SpinLockScope(const SpinLockScope&) = delete;
  SpinLockScope& operator=(const SpinLockScope&) = delete;
  ~SpinLockScope() { lock_.Unlock(); }

 private:
  SpinLock& lock_;
};

}  // namespace guest

#endif  // HYPERVISOR_GUESTS_RUNTIME_PROCESSORS_H_
