// Stats of how long the MMU lock is held exclusively: told only if asked for,
// and of every hold. Faults that only add share it.

#include <gtest/gtest.h>

#include <cstdint>
#include <numeric>
#include <sstream>
#include <string>

#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {
namespace {

uint64_t Holds(const Stats& stats) {
  return std::accumulate(stats.lock_holds.begin(), stats.lock_holds.end(),
                         uint64_t{0});
}

// So many bumps, each of which takes the lock, and a fault for each.
void BumpAndFault(SmallVm& vm, uint64_t times) {
  vm.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = 64});
  GuestVcpu& cpu = vm.AddVcpu();
  for (uint64_t i = 0; i < times; ++i) {
    vm.mmu().BumpGeneration();
    ASSERT_TRUE(cpu.Touch(Gva(i << kPageShift), Write()).hit());
  }
}

TEST(LockHolds, AreToldOfWhenAskedFor) {
  SmallVm vm(SmallVm::Options{.time_lock_holds = true});
  BumpAndFault(vm, 20);
  const Stats stats = vm.mmu().GetStats();
  EXPECT_GE(Holds(stats), 20u);
  EXPECT_GT(stats.longest_lock_hold_ns, 0u);
  GuestVcpu& cpu = vm.vcpu(0);
  ASSERT_TRUE(cpu.Touch(Gva(40 << kPageShift), Write()).hit());
  const uint64_t before = Holds(vm.mmu().GetStats()) + 1;
  ASSERT_TRUE(cpu.Touch(Gva(41 << kPageShift), Write()).hit());
  EXPECT_EQ(Holds(vm.mmu().GetStats()), before) << "a fault that only adds";
  vm.mmu().InvalidateAll();
  EXPECT_GT(Holds(vm.mmu().GetStats()), before);
  std::ostringstream text;
  text << stats;
  EXPECT_NE(text.str().find("\nlock_holds_from_"), std::string::npos);
}

// A root is made in one hold, and none is needed to see that it is good.
TEST(LockHolds, ANewRootTakesOne) {
  SmallVm vm(SmallVm::Options{.time_lock_holds = true});
  BumpAndFault(vm, 1);
  VcpuMmu& vcpu = vm.vcpu(0).mmu();
  const auto enter = [&] {
    const uint64_t before = Holds(vm.mmu().GetStats());
    EXPECT_TRUE(vcpu.EnterGuest().resume());
    vcpu.ExitGuest();
    // Stats are taken under the lock, too.
    return Holds(vm.mmu().GetStats()) - before - 1;
  };
  enter();
  vm.mmu().BumpGeneration();
  EXPECT_EQ(enter(), 1u) << "a new root";
  EXPECT_EQ(enter(), 0u) << "nothing is due";
  vm.mmu().BumpGeneration();
  EXPECT_TRUE(vcpu.HandleFault(Gva(0), Read()).resume());
  EXPECT_EQ(enter(), 0u) << "the fault has loaded it";
}

TEST(LockHolds, AreNotMeasuredOtherwise) {
  SmallVm vm;
  BumpAndFault(vm, 20);
  const Stats stats = vm.mmu().GetStats();
  EXPECT_EQ(Holds(stats), 0u);
  EXPECT_EQ(stats.longest_lock_hold_ns, 0u);
}

}  // namespace
}  // namespace shadowmmu::testing
