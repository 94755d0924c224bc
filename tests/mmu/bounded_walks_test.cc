// Walks that take things away go on for as long as there is something of what
// was there when they began, and not for as long as vCPUs make it anew: here
// one vCPU makes again what each step of a walk has taken.

#include <gtest/gtest.h>

#include <cstdint>

#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {
namespace {

using Kind = FaultOutcome::Kind;

constexpr AddressSpace kNormal = AddressSpace::kNormal;
constexpr SlotId kGoing{1};
constexpr Gfn kFirst{0x8'0000};  // of the slot that goes
// A page table is made for each of so many pages.
constexpr uint64_t kTables = 8;
constexpr uint64_t kStride = 512;

// vCPUs with paging off.
class BoundedWalks : public ::testing::Test {
 protected:
  BoundedWalks() {
    slot_ = vm_.AddSlot(
        {.id = SlotId{0}, .base = Gfn(0), .pages = kTables * kStride});
    for (int v = 0; v < 2; ++v) vm_.AddVcpu();
  }
  ~BoundedWalks() override { EXPECT_EQ(vm_.Violations(), ""); }

  static Gva At(uint64_t i) { return Gva(i * kStride * kPageSize); }
  void TouchAll(unsigned v) {
    for (uint64_t i = 0; i < kTables; ++i) {
      ASSERT_TRUE(vm_.vcpu(v).Touch(At(i), Write()).hit());
    }
  }

  SmallVm vm_{SmallVm::Options{.previous_roots = 0}};
  SlotSpec slot_;
};

TEST_F(BoundedWalks, AReclaimTakesWhatWasThereAtTheBumpAndNoMore) {
  for (const uint64_t budget : {1, 2, 5}) {
    TouchAll(0);
    TouchAll(1);
    vm_.mmu().BumpGeneration();
    const Stats before = vm_.mmu().GetStats();
    ASSERT_GT(before.obsolete_pages, kTables);
    uint64_t pages = 0;
    uint64_t steps = 0;
    for (bool more = true; more;) {
      ASSERT_LE(steps, before.obsolete_pages) << "it goes on and on";
      const ReclaimResult step = vm_.mmu().ReclaimObsolete(budget);
      pages += step.pages;
      more = step.more;
      ++steps;
      TouchAll(steps % 2);
    }
    const Stats after = vm_.mmu().GetStats();
    EXPECT_EQ(pages, before.obsolete_pages);
    EXPECT_EQ(steps, (pages + budget - 1) / budget);
    EXPECT_EQ(after.pages_zapped - before.pages_zapped, pages);
    EXPECT_EQ(after.sptes_zapped - before.sptes_zapped, before.leaf_sptes);
    EXPECT_EQ(after.leaf_sptes, kTables) << "what is current is not visited";
    EXPECT_EQ(after.lock_breaks, 0u) << "nobody waited";
  }
}

// A vCPU that bumps, and makes all of it again, does not keep the walk of an
// older bump from its end: each takes what is obsolete, once.
TEST_F(BoundedWalks, OfBumpsThatFollowEachOtherEachPageIsTakenOnce) {
  uint64_t pages = 0;
  constexpr int kBumps = 20;
  for (int i = 0; i < kBumps; ++i) {
    TouchAll(0);
    vm_.mmu().BumpGeneration();
    pages += vm_.mmu().ReclaimObsolete(3).pages;
  }
  pages += vm_.mmu().ReclaimObsolete(~uint64_t{0}).pages;
  const Stats stats = vm_.mmu().GetStats();
  EXPECT_EQ(pages, stats.pages_created);
  EXPECT_EQ(stats.pages_zapped, stats.pages_created);
  EXPECT_EQ(stats.sptes_zapped, kBumps * kTables);
}

TEST_F(BoundedWalks, ADeletionTakesEachPageOnce) {
  vm_.AddSlot({.id = kGoing, .base = kFirst, .pages = kStride});
  TouchAll(0);
  ASSERT_TRUE(vm_.vcpu(0).Touch(Gva(ToGpa(kFirst).value()), Write()).hit());
  const Stats before = vm_.mmu().GetStats();
  vm_.DeleteSlot(kNormal, kGoing);
  const Stats after = vm_.mmu().GetStats();
  EXPECT_EQ(after.pages_zapped - before.pages_zapped, before.shadow_pages);
  EXPECT_EQ(after.sptes_zapped - before.sptes_zapped, kTables + 1);
  EXPECT_EQ(after.generation_bumps - before.generation_bumps, 1u);
}

// What a notifier has taken stays taken until its end, however often it is
// asked for.
TEST_F(BoundedWalks, ANotifierTakesEachSpteOnce) {
  TouchAll(0);
  const HvaRange all{slot_.hva, kTables * kStride * kPageSize};
  const Stats before = vm_.mmu().GetStats();
  for (uint64_t nested = 0; nested < 3; ++nested) {
    ASSERT_TRUE(vm_.mmu().InvalidateBegin(all).ok());
    for (uint64_t i = 0; i < kTables; ++i) {
      for (unsigned v = 0; v < 2; ++v) {
        EXPECT_EQ(vm_.vcpu(v).mmu().HandleFault(At(i), Write()).kind,
                  Kind::kRetry);
      }
    }
  }
  const Stats after = vm_.mmu().GetStats();
  EXPECT_EQ(after.sptes_zapped - before.sptes_zapped, kTables);
  EXPECT_EQ(after.sptes_set, before.sptes_set);
  EXPECT_EQ(after.fault_retries, before.fault_retries)
      << "the guest waits, not the vCPU in the library";
  for (uint64_t nested = 0; nested < 3; ++nested) {
    ASSERT_TRUE(vm_.mmu().InvalidateEnd(all).ok());
  }
  TouchAll(0);
}

}  // namespace
}  // namespace shadowmmu::testing
