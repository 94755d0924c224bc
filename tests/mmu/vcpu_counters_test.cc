// What vCPUs count for themselves (Stats): it is added up while they are there,
// and stays when they are gone.

#include <gtest/gtest.h>

#include "tests/mmu/unsync_fixture.h"

namespace shadowmmu::testing {
namespace {

class VcpuCounters : public UnsyncVm {
 protected:
  VcpuCounters() : UnsyncVm(SmallVm::Options{.prefetch = 8}) {}

  void SetUp() override {
    Map(kGva, kData, kUsed);
    Map(kGva + kPageSize, kData + 1, kUsed);
    Map(kDevice, Gfn(kPages), kUsed);
  }

  // Counts something of everything, but for retries.
  void UseEverything(GuestVcpu& cpu) {
    ExpectAt(cpu, kGva, kData);
    ExpectTouchEnds(cpu, kNothing, FaultOutcome::Kind::kGuestFault);
    ExpectTouchEnds(cpu, kDevice, FaultOutcome::Kind::kEmulate);
    ASSERT_TRUE(cpu.mmu().WriteCr3(ToGpa(kOtherRoot).value()).ok());
    ASSERT_TRUE(cpu.mmu().WriteCr3(tables_->root().value()).ok());
    ASSERT_TRUE(StoreBy(cpu, EntryAt(kGva), EntryFor(kData + 1)).hit());
  }
  void ExpectTouchEnds(GuestVcpu& cpu, Gva gva, FaultOutcome::Kind kind) {
    const TouchResult touched = cpu.Touch(gva, Read());
    EXPECT_TRUE(touched.EndedAs(kind)) << touched;
  }

  static constexpr Gva kNothing{0x40'0000};
  static constexpr Gva kDevice{0x41'0000};
  static constexpr Gfn kOtherRoot{900};
};

TEST_F(VcpuCounters, AreThereAndStayWhenTheVcpuGoes) {
  UseEverything(*cpu_);
  const Stats there = vm_.mmu().GetStats();
  EXPECT_GT(there.root_switches, 0u);
  EXPECT_GT(there.root_cache_hits, 0u);
  EXPECT_GT(there.faults, 0u);
  EXPECT_GT(there.guest_faults, 0u);
  EXPECT_GT(there.emulations, 0u);
  EXPECT_GT(there.sptes_set, 0u);
  EXPECT_GT(there.sptes_prefetched, 0u);
  EXPECT_GT(there.pages_created, 0u);
  EXPECT_GT(there.unsyncs, 0u);

  vm_.DropVcpus();
  const Stats gone = vm_.mmu().GetStats();
  EXPECT_EQ(gone.root_switches, there.root_switches);
  EXPECT_EQ(gone.root_cache_hits, there.root_cache_hits);
  EXPECT_EQ(gone.faults, there.faults);
  EXPECT_EQ(gone.fault_retries, there.fault_retries);
  EXPECT_EQ(gone.guest_faults, there.guest_faults);
  EXPECT_EQ(gone.emulations, there.emulations);
  EXPECT_EQ(gone.sptes_set, there.sptes_set);
  EXPECT_EQ(gone.sptes_prefetched, there.sptes_prefetched);
  EXPECT_EQ(gone.pages_created, there.pages_created);
  EXPECT_EQ(gone.unsyncs, there.unsyncs);
}

// What it had reserved goes back to the pools.
TEST_F(VcpuCounters, AVcpuThatGoesKeepsNothingOfThePools) {
  UseEverything(*cpu_);
  vm_.DropVcpus();
  EXPECT_EQ(vm_.Violations(), "");
}

}  // namespace
}  // namespace shadowmmu::testing
