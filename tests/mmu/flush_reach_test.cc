// Whom a TLB flush reaches: those who may have cached what was taken away, and,
// when what a bump left behind is reclaimed, nobody else.

#include <gtest/gtest.h>

#include <cstdint>

#include "src/mmu/flush.h"
#include "src/mmu/vm.h"
#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {
namespace {

constexpr uint64_t kAll = gpte::kWritable | gpte::kUser;
constexpr Gva kGva{0x7f00'0000'0000};
constexpr Gfn kData{1024};

// Two vCPUs with tables of their own, which both map one page.
class FlushReachTest : public ::testing::Test {
 protected:
  FlushReachTest() {
    vm_.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = 4096});
    for (unsigned v = 0; v < 2; ++v) {
      tables_[v] = &vm_.UseTables(vm_.AddVcpu(), {Gfn(16 + v * 64), 64});
      EXPECT_TRUE(tables_[v]->Map(kGva, ToGpa(kData), Level::k4K, kAll).ok());
      EXPECT_TRUE(vm_.vcpu(v).Touch(kGva, Write()).hit());
    }
  }
  ~FlushReachTest() override { EXPECT_EQ(vm_.Violations(), ""); }

  // The vCPU is in the guest from then on, and has used the page.
  void Enter(unsigned v) {
    ASSERT_TRUE(vm_.vcpu(v).Touch(kGva, Write()).hit());
    ASSERT_TRUE(vm_.vcpu(v).mmu().EnterGuest().resume());
    ASSERT_TRUE(vm_.vcpu(v).cpu().Access(kGva, Read()).hit());
    ASSERT_TRUE(HasCached(v));
  }
  void Leave(unsigned v) { vm_.vcpu(v).mmu().ExitGuest(); }
  bool HasCached(unsigned v) {
    return !vm_.vcpu(v).cpu().TlbEntries().empty() ||
           !vm_.vcpu(v).cpu().StructureEntries().empty();
  }
  uint64_t Reclaim() { return vm_.mmu().ReclaimObsolete(1'000'000).pages; }
  uint64_t Spared() { return vm_.mmu().GetStats().flushes_spared; }

  SmallVm vm_;
  GuestTableBuilder* tables_[2] = {};
};

TEST_F(FlushReachTest, ReclaimingDisturbsNobodyWhoHasSeenTheBump) {
  vm_.mmu().BumpGeneration();
  Enter(0);
  Enter(1);
  const uint64_t flushes = vm_.host().flushes();
  const uint64_t kicks = vm_.host().kicks();
  EXPECT_GT(Reclaim(), 0u);
  EXPECT_EQ(vm_.host().flushes(), flushes);
  EXPECT_EQ(vm_.host().kicks(), kicks);
  EXPECT_GT(Spared(), 0u);
  EXPECT_TRUE(HasCached(0));
  EXPECT_TRUE(HasCached(1));
  Leave(0);
  Leave(1);
}

// The other one is outside, and holds its old root until it enters again.
TEST_F(FlushReachTest, NorDoesAnObsoleteRootThatSomebodyStillHolds) {
  vm_.mmu().BumpGeneration();
  Enter(0);
  const uint64_t flushes = vm_.host().flushes();
  const uint64_t kicks = vm_.host().kicks();
  EXPECT_GT(Reclaim(), 0u);
  EXPECT_EQ(vm_.mmu().GetStats().obsolete_pages, 1u) << "the root";
  EXPECT_EQ(vm_.host().flushes(), flushes);
  EXPECT_EQ(vm_.host().kicks(), kicks);
  Leave(0);
}

TEST_F(FlushReachTest, AVcpuThatIsStillOnAnObsoleteRootIsFlushedAndNoOther) {
  Enter(0);
  vm_.mmu().BumpGeneration();
  Enter(1);
  EXPECT_GT(Reclaim(), 0u);
  EXPECT_FALSE(HasCached(0));
  EXPECT_TRUE(HasCached(1));
  EXPECT_FALSE(vm_.vcpu(0).cpu().Access(kGva, Read()).hit());
  Leave(0);
  EXPECT_TRUE(vm_.vcpu(0).Touch(kGva, Write()).hit());
  Leave(1);
}

// Nobody is in the guest: all who enter load a new root, and flush.
TEST_F(FlushReachTest, AVcpuThatIsOutsideFlushesWithItsNewRoot) {
  vm_.mmu().BumpGeneration();
  EXPECT_GT(Reclaim(), 0u);
  for (unsigned v = 0; v < 2; ++v) {
    EXPECT_TRUE(HasCached(v)) << "left from before";
    ASSERT_TRUE(vm_.vcpu(v).mmu().EnterGuest().resume());
    EXPECT_FALSE(HasCached(v));
    Leave(v);
  }
}

TEST_F(FlushReachTest, APreviousRootOfBeforeTheBumpIsNotComeBackTo) {
  const uint64_t first = vm_.vcpu(0).mmu().registers().cr3;
  ASSERT_TRUE(vm_.vcpu(0).mmu().WriteCr3(tables_[1]->root().value()).ok());
  ASSERT_TRUE(vm_.vcpu(0).Touch(kGva, Read()).hit());
  vm_.mmu().BumpGeneration();
  ASSERT_TRUE(vm_.vcpu(0).mmu().WriteCr3(first).ok());
  Enter(0);
  const uint64_t flushes = vm_.host().flushes();
  EXPECT_GT(Reclaim(), 0u);
  EXPECT_EQ(vm_.host().flushes(), flushes);
  EXPECT_TRUE(vm_.vcpu(0).cpu().Access(kGva, Write()).hit());
  Leave(0);
}

// Its current root is good; the vCPU is asked to load one all the same, and
// finds what it holds for nothing.
TEST_F(FlushReachTest, APreviousRootThatWasZappedIsLetGoOfAtTheNextEntry) {
  const Gpa first = tables_[0]->root();
  ASSERT_TRUE(vm_.vcpu(0).mmu().WriteCr3(tables_[1]->root().value()).ok());
  ASSERT_TRUE(vm_.vcpu(0).Touch(kGva, Read()).hit());
  ASSERT_TRUE(vm_.mmu().StopShadowing(ToGfn(first)));
  EXPECT_EQ(vm_.mmu().GetStats().obsolete_pages, 1u) << "it is still held";
  ASSERT_TRUE(vm_.vcpu(0).mmu().EnterGuest().resume());
  Leave(0);
  EXPECT_EQ(vm_.mmu().GetStats().obsolete_pages, 0u);
}

// A current page that is zapped in the same batch concerns everybody.
TEST_F(FlushReachTest, AZapOfCurrentPagesReachesEverybody) {
  vm_.mmu().BumpGeneration();
  Enter(0);
  Enter(1);
  const uint64_t spared = Spared();
  vm_.mmu().InvalidateAll(Strategy::kZapAll);
  EXPECT_FALSE(HasCached(0));
  EXPECT_FALSE(HasCached(1));
  EXPECT_EQ(Spared(), spared);
  Leave(0);
  Leave(1);
}

TEST_F(FlushReachTest, WhatIsTakenOverKeepsTheWiderReach) {
  Enter(0);
  Vm& vm = vm_.mmu().internals();
  for (const bool wide_first : {true, false}) {
    ASSERT_TRUE(vm_.vcpu(0).cpu().Access(kGva, Read()).hit());
    const VmLock held(vm);
    FlushObligation all;
    FlushObligation wide;
    FlushObligation narrow(FlushReach::kOnObsoleteRoots);
    wide.Owe();
    narrow.Owe();
    all.TakeOver(wide_first ? wide : narrow);
    all.TakeOver(wide_first ? narrow : wide);
    EXPECT_FALSE(wide.owed() || narrow.owed());
    all.Pay(vm);
    EXPECT_FALSE(HasCached(0));
  }
  Leave(0);
}

}  // namespace
}  // namespace shadowmmu::testing
