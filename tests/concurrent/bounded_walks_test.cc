// Walks that let vCPUs in, which make anew what the walk takes away: each takes
// what there was when it began, and no more, and so lets others in so many
// times at most. Each test goes on until a walk has let somebody in.

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <optional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "src/mmu/vm.h"
#include "tests/concurrent/beside.h"
#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {
namespace {

constexpr AddressSpace kNormal = AddressSpace::kNormal;
constexpr SlotId kMain{0};
constexpr SlotId kGoing{1};
// Three steps of a notifier, and more than one of a reclaim.
constexpr uint64_t kPages = 3 * 4096;
constexpr uint64_t kBytesAtOnce = uint64_t{16} << 20;
constexpr uint64_t kPagesBetweenBreaks = 16;
constexpr Gfn kGoingFirst{0x8'0000};
constexpr unsigned kFaulting = 2;

// vCPUs with paging off that fault on every 64th page of two slots; one more is
// in the guest.
class BoundedWalksThreads : public ::testing::Test {
 protected:
  BoundedWalksThreads() {
    main_ = vm_.AddSlot({.id = kMain, .base = Gfn(0), .pages = kPages});
    going_ = vm_.AddSlot({.id = kGoing, .base = kGoingFirst, .pages = 64});
    for (unsigned v = 0; v <= kFaulting; ++v) vm_.AddVcpu();
    vm_.host().SetKickHook([this](const VcpuSet&) { NoteKick(); });
    for (unsigned v = 0; v < kFaulting; ++v) {
      threads_.emplace_back([this, v] { KeepFaulting(v); });
    }
  }
  ~BoundedWalksThreads() override {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
    EXPECT_EQ(vm_.Violations(), "");
  }

  void KeepFaulting(unsigned v) {
    VcpuMmu& mmu = vm_.vcpu(v).mmu();
    for (uint64_t i = v; !stop_; ++i) {
      const Gfn gfn = i % 65 == 64 ? kGoingFirst + i % 64
                                   : Gfn(i * 64 % kPages + i / 192 % 64);
      mmu.HandleFault(Gva(ToGpa(gfn).value()), Write());
      ++faults_;
    }
  }
  // Some more faults, so that there is something to take.
  void AwaitFaults() {
    const uint64_t before = faults_;
    Await([&] { return faults_ >= before + 300; });
  }

  // What there is when everything is obsolete, and nothing was taken yet: at
  // the kick of the bump, which has the MMU lock.
  struct AtBump {
    uint64_t pages = 0;
    uint64_t sptes = 0;
    uint64_t pages_zapped = 0;
    uint64_t sptes_zapped = 0;
  };
  void NoteKick() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    if (!armed_.exchange(false)) return;
    const Vm& vm = vm_.mmu().internals();
    AtBump at{.pages = vm.arena.tables_in_use(),
              .pages_zapped = vm.counters.pages_zapped,
              .sptes_zapped = vm.counters.sptes_zapped};
    const uint64_t epoch = vm.generations.arena_epoch;
    vm.slot_table().ForEach([&](const Memslot& slot) {
      at.sptes += slot.rmaps->leaf_sptes(epoch);
    });
    at_bump_ = at;
  }
  // Walks, with the other vCPU in the guest, until a walk has let others in.
  template <typename Walk>
  void UntilABreak(Walk walk) {
    GuestVcpu& in_guest = vm_.vcpu(kFaulting);
    for (uint64_t breaks = 0; breaks == 0;) {
      AwaitFaults();
      ASSERT_TRUE(in_guest.mmu().EnterGuest().resume());
      at_bump_.reset();
      const Stats before = vm_.mmu().GetStats();
      armed_ = true;
      walk();
      const Stats after = vm_.mmu().GetStats();
      in_guest.mmu().ExitGuest();
      ASSERT_TRUE(at_bump_.has_value());
      breaks = after.lock_breaks - before.lock_breaks;
      EXPECT_LE(after.pages_zapped - at_bump_->pages_zapped, at_bump_->pages);
      EXPECT_LE(after.sptes_zapped - at_bump_->sptes_zapped, at_bump_->sptes);
      EXPECT_LE(breaks, at_bump_->pages / kPagesBetweenBreaks);
      EXPECT_EQ(after.pages_evicted, 0u);
    }
  }

  SmallVm vm_{SmallVm::Options{.frames = 16384}};
  SlotSpec main_;
  SlotSpec going_;
  std::atomic<uint64_t> faults_{0};

 private:
  std::atomic<bool> armed_{false};
  std::optional<AtBump> at_bump_;
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};

TEST_F(BoundedWalksThreads, AReclaimVisitsWhatWasThereAtTheBump) {
  UntilABreak([this] {
    vm_.mmu().BumpGeneration();
    EXPECT_FALSE(vm_.mmu().ReclaimObsolete(~uint64_t{0}).more);
  });
}

TEST_F(BoundedWalksThreads, ADeletionVisitsWhatWasThereAtItsBump) {
  UntilABreak([this] {
    EXPECT_TRUE(
        vm_.mmu().DeleteSlot(kNormal, kGoing, SlotZapPolicy::kWalk).ok());
    EXPECT_TRUE(vm_.mmu().CreateSlot(going_).ok());
  });
}

TEST_F(BoundedWalksThreads, ANotifierVisitsEachPageOnce) {
  const HvaRange all{main_.hva, kPages * kPageSize};
  for (uint64_t breaks = 0; breaks == 0;) {
    AwaitFaults();
    const Stats before = vm_.mmu().GetStats();
    ASSERT_TRUE(vm_.mmu().InvalidateBegin(all).ok());
    const Stats after = vm_.mmu().GetStats();
    ASSERT_TRUE(vm_.mmu().InvalidateEnd(all).ok());
    breaks = after.lock_breaks - before.lock_breaks;
    EXPECT_LE(after.leaf_sptes, 64u) << "of the other slot";
    // With paging off a page has one spte.
    EXPECT_LE(after.sptes_zapped - before.sptes_zapped, kPages);
    EXPECT_LE(breaks, kPages * kPageSize / kBytesAtOnce - 1);
  }
}

}  // namespace
}  // namespace shadowmmu::testing
