// What others do at the same time makes nothing endless: zaps while vCPUs
// fault, faults while everything is zapped, a fault loop over a slot that is
// being deleted. Each test ends, and counts the steps that it took.

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {
namespace {

constexpr AddressSpace kNormal = AddressSpace::kNormal;
constexpr unsigned kVcpus = 3;
// 16 page tables, and the directories above.
constexpr uint64_t kPages = 8000;
constexpr uint64_t kBudget = 2;
// How often one call of HandleFault starts over (src/mmu/fault.cc).
constexpr uint64_t kAttempts = 8;
constexpr int kRounds = 200;

// vCPUs with paging off that touch all of a slot, again and again.
class Livelock : public ::testing::Test {
 protected:
  Livelock() : vm_(SmallVm::Options{.table_capacity = 512}) {
    vm_.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = kPages});
    for (unsigned v = 0; v < kVcpus; ++v) vm_.AddVcpu();
  }
  ~Livelock() override { EXPECT_EQ(vm_.Violations(), ""); }

  void StartFaulting() {
    for (unsigned v = 0; v < kVcpus; ++v) {
      threads_.emplace_back([this, v] {
        for (uint64_t i = v; !stop_.load(); i += 97) {
          const Gva gva((i % kPages) << kPageShift);
          const TouchResult touched = vm_.vcpu(v).Touch(gva, Write());
          // While a notifier has the range it is told to try again; and what
          // was mapped may be zapped before it is used.
          EXPECT_TRUE(touched.hit() ||
                      touched.kind == TouchResult::Kind::kDidNotConverge)
              << touched;
          touches_.fetch_add(1, std::memory_order_relaxed);
        }
      });
    }
    while (touches_.load() < 100) std::this_thread::yield();
  }
  void Stop() {
    stop_.store(true);
    for (std::thread& thread : threads_) thread.join();
  }

  SmallVm vm_;
  std::vector<std::thread> threads_;
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> touches_{0};
};

// Bug 9 (2019): zap-all went on for as long as vCPUs faulted pages in.
TEST_F(Livelock, AZapIsBoundedByWhatThereWasWhenItBegan) {
  StartFaulting();
  for (int i = 0; i < kRounds; ++i) {
    vm_.mmu().BumpGeneration();
    const uint64_t obsolete = vm_.mmu().GetStats().obsolete_pages;
    // What is made from now on is not obsolete.
    uint64_t calls = 1;
    while (vm_.mmu().ReclaimObsolete(kBudget).more) ++calls;
    EXPECT_LE(calls, obsolete / kBudget + 1);
    vm_.mmu().InvalidateAll(Strategy::kZapAll);
    vm_.mmu().InvalidateAll(Strategy::kObsoleteWalk);
  }
  const uint64_t before = touches_.load();
  while (touches_.load() == before) std::this_thread::yield();
  Stop();
}

// The other way round: nobody's fault starts over for ever.
TEST_F(Livelock, AFaultIsBoundedWhateverIsZapped) {
  StartFaulting();
  for (int i = 0; i < kRounds; ++i) {
    vm_.mmu().InvalidateAll(i % 2 == 0 ? Strategy::kZapAll
                                       : Strategy::kObsoleteWalk);
    const HvaRange all{*vm_.memory().HvaOf(kNormal, Gpa(0)),
                       kPages * kPageSize};
    EXPECT_TRUE(vm_.mmu().InvalidateBegin(all).ok());
    EXPECT_TRUE(vm_.mmu().InvalidateEnd(all).ok());
  }
  Stop();
  const Stats stats = vm_.mmu().GetStats();
  EXPECT_GT(stats.faults, 100u);
  EXPECT_LE(stats.fault_retries, stats.faults * kAttempts);
}

// Bug 21 (6.18): a loop that maps a range ahead of its use held a section over
// its retries, while the deletion of the slot waited for that section, and made
// it retry.
TEST_F(Livelock, AFaultLoopAndADeletionBothEnd) {
  const SlotSpec slot =
      vm_.AddSlot({.id = SlotId{1}, .base = Gfn(0x8000), .pages = 64});
  for (int i = 0; i < 20; ++i) {
    if (i > 0) {
      ASSERT_TRUE(vm_.mmu().CreateSlot(slot).ok());
    }
    std::atomic<bool> started{false};
    std::thread loop([&] {
      // As long as there is a slot, whatever page comes next is mapped.
      for (uint64_t page = 0;; page = (page + 1) % 64) {
        const Gva gva(ToGpa(slot.base + page).value());
        const TouchResult touched = vm_.vcpu(0).Touch(gva, Write());
        started.store(true);
        if (touched.EndedAs(FaultOutcome::Kind::kEmulate)) break;
      }
    });
    while (!started.load()) std::this_thread::yield();
    EXPECT_TRUE(vm_.mmu().DeleteSlot(kNormal, slot.id).ok());
    loop.join();
  }
}

}  // namespace
}  // namespace shadowmmu::testing
