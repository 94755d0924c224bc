#include "src/base/srcu.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <thread>

#include "src/base/check.h"
#include "src/base/mutex.h"

namespace shadowmmu {
namespace {

// Threads get their stripes in turn. Which one matters for speed only.
unsigned ThreadNumber() {
  static constinit std::atomic<unsigned> next{0};
  thread_local const unsigned number =
      next.fetch_add(1, std::memory_order_relaxed);
  return number;
}

// Waits a little, then longer: sections are short as a rule, but may sleep.
class Backoff {
 public:
  void Wait() {
    if (yields_ < kYields) {
      ++yields_;
      std::this_thread::yield();
      return;
    }
    std::this_thread::sleep_for(sleep_);
    sleep_ = std::min(sleep_ * 2, kLongestSleep);
  }

 private:
  static constexpr int kYields = 64;
  static constexpr std::chrono::microseconds kLongestSleep{1000};

  int yields_ = 0;
  std::chrono::microseconds sleep_{20};
};

}  // namespace

Srcu::~Srcu() {
  for (const Stripe& stripe : stripes_) {
    for (const std::atomic<std::uint64_t>& inside : stripe.inside) {
      SMMU_CHECK_EQ(inside.load(), 0u) << "a reader is inside a dying Srcu";
    }
  }
}

int Srcu::Enter() { return EnterSelected(selector_.load() & 1); }

int Srcu::EnterSelected(unsigned selector) {
  const unsigned stripe = ThreadNumber() % kStripes;
  stripes_[stripe].inside[selector].fetch_add(1);
  return static_cast<int>(stripe * 2 + selector);
}

void Srcu::Leave(int ticket) {
  SMMU_DCHECK(ticket >= 0 && ticket < kStripes * 2) << ticket;
  const auto index = static_cast<std::size_t>(ticket);
  const std::uint64_t before =
      stripes_[index / 2].inside[index % 2].fetch_sub(1);
  SMMU_CHECK_NE(before, 0u) << "leaving a section that was never entered";
}

void Srcu::Synchronize() {
  MutexLock lock(&update_mutex_);
  for (int round = 0; round < 2; ++round) {
    WaitForReaders(selector_.fetch_xor(1) & 1);
  }
}

void Srcu::WaitForReaders(unsigned selector) {
  Backoff backoff;
  for (Stripe& stripe : stripes_) {
    std::atomic<std::uint64_t>& inside = stripe.inside[selector];
    // Look without disturbing the readers' cache line, then accept the zero by
    // a read-modify-write: see 2. in the header.
    while (inside.load(std::memory_order_relaxed) != 0 ||
           inside.fetch_add(0) != 0) {
      backoff.Wait();
    }
  }
}

}  // namespace shadowmmu
