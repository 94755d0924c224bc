// What may come between the look at an entry and the write of it, where a fast
// fault makes it writable: the CPU's own updates, and another fault that
// changes the entry in place.

#include <gtest/gtest.h>

#include <atomic>
#include <functional>

#include "src/mmu/spte_write.h"
#include "src/mmu/vm.h"
#include "tests/concurrent/beside.h"
#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {
namespace {

constexpr AddressSpace kNormal = AddressSpace::kNormal;
constexpr Gfn kGfn{7};
constexpr int kRounds = 100'000;

class FastFaultRaces : public ::testing::Test {
 protected:
  FastFaultRaces() {
    vm_.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = 64});
    EXPECT_TRUE(vm_.AddVcpu().Touch(Gva(ToGpa(kGfn).value()), Write()).hit());
    const VmLock held(inside());
    leaf_ = inside().lists.Newest(
        *inside()
             .slot_table()
             .Find(kNormal, kGfn)
             ->rmaps->Head(kGfn, Level::k4K, inside().generations.arena_epoch));
  }
  ~FastFaultRaces() override { EXPECT_EQ(vm_.Violations(), ""); }

  Vm& inside() { return vm_.mmu().internals(); }
  std::atomic<uint64_t>& Entry() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    return inside().arena.Entry(leaf_);
  }

  // The entry is log-protected; this thread lifts that, and another one does
  // `other` at the same time, both with the MMU lock shared; `judge` looks at
  // what came of it. Again and again.
  void Race(const std::function<void()>& other,
            const std::function<void(Spte)>& judge) {
    const uint64_t writable = Entry().load() & ~(pte::kAccessed | pte::kDirty);
    std::atomic<int> begun{0};
    std::atomic<int> ended{0};
    Beside another([&] {
      for (int round = 1; round <= kRounds; ++round) {
        Await([&] { return begun >= round; });
        Do(1, other);
        ended.store(round, std::memory_order_release);
      }
    });
    for (int round = 1; round <= kRounds; ++round) {
      Entry().store((writable & ~pte::kWritable) | pte::kLogProtected);
      begun.store(round, std::memory_order_release);
      Do(0, [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
        EXPECT_TRUE(LiftLogProtection(inside(), leaf_));
      });
      Await([&] { return ended >= round; });
      judge(Spte(Entry().load()));
    }
    another.Join();
    Entry().store(writable);
  }
  // As a fault does it.
  void Do(unsigned stripe, const std::function<void()>& step) {
    const SlotReader reader(inside().slots);
    const SharedVmLock held(inside(), stripe);
    step();
  }

  SmallVm vm_;
  SpteRef leaf_;
};

TEST_F(FastFaultRaces, WhatTheCpuSetsMeanwhileStays) {
  constexpr uint64_t kBits = pte::kAccessed | pte::kDirty;
  int lost = 0;
  Race([&] { Entry().fetch_or(kBits); },
       [&](Spte spte) {
         if (!spte.writable() || (spte.bits() & kBits) != kBits) ++lost;
       });
  EXPECT_EQ(lost, 0);
}

// The other fault is one for reading, which would have the page read-only: it
// must come back alone, or have been first.
TEST_F(FastFaultRaces, AFaultThatChangesTheEntryInPlaceTakesNothingAway) {
  const uint64_t bits = Entry().load();
  const Spte protected_leaf = Spte(bits & ~pte::kWritable).LogProtected();
  Writer writer;
  int taken = 0;
  Race(
      [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
        FlushObligation flush;
        SetLeaf(
            inside(), writer, VmHold::kShared, leaf_,
            {.gfn = kGfn, .spte = protected_leaf, .if_tracked = protected_leaf},
            flush);
        EXPECT_FALSE(flush.owed());
      },
      [&](Spte spte) {
        if (!spte.writable()) ++taken;
      });
  EXPECT_EQ(taken, 0);
}

}  // namespace
}  // namespace shadowmmu::testing
