// What is done to many sptes at once: that each sweep takes what it was told
// to, leaves the rest, and owes the flush; on singles, chains, large pages,
// links and entries that are not there. The audit is asked after each.

#include "src/mmu/spte_sweep.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "src/mmu/zap.h"
#include "tests/mmu/breakable_vm.h"

namespace shadowmmu::testing {
namespace {

using B = BreakableVm;

class SpteSweep : public ::testing::Test {
 protected:
  ~SpteSweep() override { ExpectHealthy(); }

  void ExpectHealthy() {
    const AuditReport report = Audit(vm_.small().mmu());
    EXPECT_TRUE(report.violations.empty()) << report;
  }

  // Calls sweep(vm, flush) under the lock, pays the flush, and returns whether
  // one was owed.
  template <typename Sweep>
  bool Do(Sweep sweep) {
    Vm& vm = vm_.inside();
    bool owed = false;
    {
      const VmLock held(vm);
      FlushObligation flush;
      sweep(vm, flush);
      owed = flush.owed();
      flush.Pay(vm);
    }
    ExpectHealthy();
    return owed;
  }

  std::vector<SpteRef> Mapping(Gfn gfn, Level level = Level::k4K) {
    Vm& vm = vm_.inside();
    const VmLock held(vm);
    std::vector<SpteRef> refs;
    vm.lists.ForEach(HeadOf(vm, gfn, level),
                     [&](SpteRef ref) { refs.push_back(ref); });
    return refs;
  }
  // Every present entry of every table: leaves and links.
  std::vector<SpteRef> Everything() {
    Vm& vm = vm_.inside();
    const VmLock held(vm);
    std::vector<SpteRef> refs;
    for (TableIndex table = vm.pages.oldest(); table != TableIndex::kNil;
         table = vm.pages.Next(table)) {
      for (unsigned i = 0; i < kEntriesPerTable; ++i) {
        const SpteRef ref(table, i);
        if (vm.arena.Load(ref).present()) refs.push_back(ref);
      }
    }
    return refs;
  }
  bool Present(SpteRef ref) {
    Vm& vm = vm_.inside();
    const VmLock held(vm);
    return vm.arena.Load(ref).present();
  }
  Stats stats() { return vm_.small().mmu().GetStats(); }

  BreakableVm vm_;
};

TEST_F(SpteSweep, DroppingRefsTakesThoseAndNoOthersOffTheirChain) {
  const std::vector<SpteRef> all = Mapping(B::kAliased);
  ASSERT_GE(all.size(), 20u);
  const std::vector<SpteRef> some(all.begin() + 3, all.begin() + 11);
  const uint64_t zapped = stats().sptes_zapped;
  EXPECT_TRUE(
      Do([&](Vm& vm, FlushObligation& flush)
             ABSL_NO_THREAD_SAFETY_ANALYSIS { DropRefs(vm, some, flush); }));
  for (const SpteRef ref : some) EXPECT_FALSE(Present(ref)) << ref;
  EXPECT_EQ(Mapping(B::kAliased).size(), all.size() - some.size());
  EXPECT_EQ(stats().sptes_zapped - zapped, some.size());
}

TEST_F(SpteSweep, DroppingRefsOfEveryKindInAnyOrderLeavesNothing) {
  std::vector<SpteRef> refs = Everything();
  // Some twice, and some that are not there.
  refs.insert(refs.end(), refs.begin(), refs.begin() + 10);
  for (unsigned i = 400; i < 410; ++i) {
    refs.push_back(SpteRef(refs.front().table(), i));
  }
  std::shuffle(refs.begin(), refs.end(), std::mt19937(7));
  EXPECT_TRUE(
      Do([&](Vm& vm, FlushObligation& flush)
             ABSL_NO_THREAD_SAFETY_ANALYSIS { DropRefs(vm, refs, flush); }));
  EXPECT_TRUE(Everything().empty());
  EXPECT_EQ(stats().leaf_sptes, 0u);
  EXPECT_EQ(stats().pte_list_descs, 0u);
}

TEST_F(SpteSweep, DroppingWhatIsNotThereOwesNothing) {
  const SpteRef gone = Mapping(B::kSingle).front();
  const auto drop = [&](Vm& vm, FlushObligation& flush)
                        ABSL_NO_THREAD_SAFETY_ANALYSIS {
                          DropRefs(vm, std::vector<SpteRef>{gone, gone}, flush);
                        };
  EXPECT_TRUE(Do(drop));
  EXPECT_FALSE(Do(drop));
}

TEST_F(SpteSweep, DroppingARangeEmptiesItsChainsAndLargePagesAndNoOthers) {
  const auto drop = [&](GfnRange gfns) {
    return Do([&](Vm& vm, FlushObligation& flush)
                  ABSL_NO_THREAD_SAFETY_ANALYSIS {
                    DropRange(vm, *SlotOf(vm, gfns.begin).rmaps, gfns, flush);
                  });
  };
  EXPECT_FALSE(drop({B::kUnmapped, 10}));
  EXPECT_TRUE(drop({B::kAliased, 1}));
  EXPECT_TRUE(Mapping(B::kAliased).empty());
  EXPECT_FALSE(Mapping(B::kSingle).empty());
  // One gfn in the middle of a large page takes the page.
  EXPECT_FALSE(Mapping(B::kLarge.begin, Level::k2M).empty());
  EXPECT_TRUE(drop({B::kLarge.begin + 300, 1}));
  EXPECT_TRUE(Mapping(B::kLarge.begin, Level::k2M).empty());
  EXPECT_TRUE(drop(B::kMain));
  EXPECT_TRUE(Mapping(B::kSingle).empty());
}

TEST_F(SpteSweep, ClearingATableOfLeavesOwesAFlushOfItsOwn) {
  const SpteRef leaf = Mapping(B::kSingle).front();
  const auto clear =
      [&](Vm& vm, FlushObligation& flush) ABSL_NO_THREAD_SAFETY_ANALYSIS {
        DropEntries(vm, leaf.table(), Clearing::kExchange, flush);
      };
  EXPECT_TRUE(Do(clear));
  EXPECT_FALSE(Present(leaf));
  EXPECT_FALSE(Do(clear)) << "there was nothing left";
}

TEST_F(SpteSweep, BothWaysToClearATableLeaveTheSame) {
  for (const Clearing clearing : {Clearing::kExchange, Clearing::kStore}) {
    BreakableVm fresh;
    Vm& vm = fresh.inside();
    {
      const VmLock held(vm);
      ZapBatch batch;
      while (vm.pages.oldest() != TableIndex::kNil) {
        batch.Zap(vm, vm.pages.oldest(), clearing);
      }
      batch.Commit(vm);
    }
    const AuditReport report = Audit(fresh.small().mmu());
    EXPECT_TRUE(report.violations.empty()) << report;
    const Stats left = fresh.small().mmu().GetStats();
    EXPECT_EQ(left.leaf_sptes, 0u);
    EXPECT_EQ(left.pte_list_descs, 0u);
    EXPECT_GT(left.sptes_zapped, B::kAliases);
  }
}

// For a log first, and then for good, which takes nothing more from the CPUs.
TEST_F(SpteSweep, WriteProtectingARangeOwesAFlushOnce) {
  Vm& vm = vm_.inside();
  for (const Protect why : {Protect::kForLog, Protect::kWholly}) {
    const auto protect =
        [&](Vm& broken, FlushObligation& flush) ABSL_NO_THREAD_SAFETY_ANALYSIS {
          WriteProtectRange(broken, *SlotOf(broken, B::kAliased).rmaps,
                            {B::kAliased, 100}, why, flush);
        };
    EXPECT_EQ(Do(protect), why == Protect::kForLog);
    for (const Gfn gfn : {B::kAliased, B::kSingle}) {
      for (const SpteRef ref : Mapping(gfn)) {
        const VmLock held(vm);
        EXPECT_FALSE(vm.arena.Load(ref).writable()) << ref;
        EXPECT_EQ(vm.arena.Load(ref).log_protected(), why == Protect::kForLog)
            << ref;
        EXPECT_TRUE(vm.arena.Load(ref).present()) << ref;
      }
    }
    EXPECT_FALSE(Do(protect));
  }
}

TEST_F(SpteSweep, AgingClearsEveryBitOnceAndOwesNothing) {
  const GfnRange gfns{B::kAliased, 1};
  bool young = false;
  const auto clear = [&](Vm& vm, FlushObligation&)
                         ABSL_NO_THREAD_SAFETY_ANALYSIS {
                           SlotRmaps& rmaps = *SlotOf(vm, B::kAliased).rmaps;
                           young = ClearAccessedRange(vm, rmaps, gfns);
                         };
  const auto test = [&](Vm& vm, FlushObligation&)
                        ABSL_NO_THREAD_SAFETY_ANALYSIS {
                          SlotRmaps& rmaps = *SlotOf(vm, B::kAliased).rmaps;
                          young = TestAccessedRange(vm, rmaps, gfns);
                        };
  EXPECT_FALSE(Do(test));
  EXPECT_TRUE(young);
  EXPECT_FALSE(Do(clear));
  EXPECT_TRUE(young);
  EXPECT_FALSE(Do(test));
  EXPECT_FALSE(young);
  EXPECT_FALSE(Do(clear));
  EXPECT_FALSE(young);
}

}  // namespace
}  // namespace shadowmmu::testing
