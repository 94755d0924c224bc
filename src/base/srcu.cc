#include "src/base/srcu.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "src/base/backoff.h"
#include "src/base/check.h"
#include "src/base/mutex.h"
#include "src/base/thread_number.h"

namespace shadowmmu {
Srcu::~Srcu() {
  for (const Stripe& stripe : stripes_) {
    for (const std::atomic<std::uint64_t>& inside : stripe.inside) {
      SMMU_CHECK_EQ(inside.load(), 0u) << "a reader is inside a dying Srcu";
    }
  }
}

int Srcu::Enter(SrcuReaderName name) {
  return EnterSelected(selector_.load() & 1, name);
}

int Srcu::EnterSelected(unsigned selector, SrcuReaderName name) {
  // Which stripe a thread has matters for speed only.
  const unsigned number = ThreadNumber() % kStripes;
  Stripe& stripe = stripes_[number];
  stripe.inside[selector].fetch_add(1);
  stripe.what.store(name.what, std::memory_order_relaxed);
  stripe.vcpu.store(name.vcpu, std::memory_order_relaxed);
  return static_cast<int>(number * 2 + selector);
}

void Srcu::Leave(int ticket) {
  SMMU_DCHECK(ticket >= 0 && ticket < kStripes * 2) << ticket;
  const auto index = static_cast<std::size_t>(ticket);
  const std::uint64_t before =
      stripes_[index / 2].inside[index % 2].fetch_sub(1);
  SMMU_CHECK_NE(before, 0u) << "leaving a section that was never entered";
}

void Srcu::Synchronize(StallReport report) {
  MutexLock lock(&update_mutex_);
  for (int round = 0; round < 2; ++round) {
    WaitForReaders(selector_.fetch_xor(1) & 1, report);
  }
}

void Srcu::WaitForReaders(unsigned selector, StallReport report) {
  Backoff backoff;
  for (Stripe& stripe : stripes_) {
    std::atomic<std::uint64_t>& inside = stripe.inside[selector];
    // Look without disturbing the readers' cache line, then accept the zero by
    // a read-modify-write: see 2. in the header.
    while (inside.load(std::memory_order_relaxed) != 0 ||
           inside.fetch_add(0) != 0) {
      backoff.Wait();
      if (const std::optional<uint64_t> waited = backoff.StallDue()) {
        report({.reader = {.what = stripe.what.load(std::memory_order_relaxed),
                           .vcpu = stripe.vcpu.load(std::memory_order_relaxed)},
                .readers = inside.load(std::memory_order_relaxed),
                .milliseconds = *waited});
      }
    }
  }
}

}  // namespace shadowmmu
