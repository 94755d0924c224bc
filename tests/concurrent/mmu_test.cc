// A VM under everything at once (tests/harness/busy_vm.h). ThreadSanitizer
// watches; the audit looks again and again, and when all is quiet.

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "tests/harness/busy_vm.h"

namespace shadowmmu::testing {
namespace {

constexpr int kRounds = 3000;
constexpr unsigned kOthers = 3;

// The vCPUs take so many steps each, and the others as many as they can
// meanwhile.
void RunEverything(BusyVm& vm) {
  std::atomic<bool> done{false};
  std::vector<std::thread> vcpus;
  for (unsigned v = 0; v < vm.vcpus(); ++v) {
    vcpus.emplace_back([&vm, v] {
      Rng rng(v);
      for (int i = 0; i < kRounds; ++i) vm.StepVcpu(v, rng);
    });
  }
  std::vector<std::thread> others;
  for (unsigned i = 0; i < kOthers; ++i) {
    others.emplace_back([&, i] {
      Rng rng(100 + i);
      while (!done) {
        vm.StepOther(rng);
        std::this_thread::yield();
      }
    });
  }
  for (std::thread& thread : vcpus) thread.join();
  done = true;
  for (std::thread& thread : others) thread.join();

  EXPECT_EQ(vm.wrong(), "");
  EXPECT_GT(vm.hits(), 1000u) << "the guest got nowhere";
  EXPECT_GT(vm.mmu().GetStats().unsyncs, 0u);
  EXPECT_GT(vm.mmu().GetStats().syncs, 0u);
  EXPECT_EQ(vm.small().Violations(), "");
}

TEST(BusyVm, StaysSoundWhileVcpusHostSlotsAndInvalidationsMeet) {
  BusyVm vm({.vcpus = 3});
  RunEverything(vm);
}

TEST(BusyVm, StaysSoundInOtherModes) {
  BusyVm vm({.vcpus = 3, .modes = BusyVm::Modes::kMixed});
  RunEverything(vm);
}

TEST(BusyVm, StaysSoundWithPrefetchAndRoom) {
  BusyVm vm({.vcpus = 4, .table_capacity = 512, .prefetch = 8});
  RunEverything(vm);
}

// Bug 29 of VirtualBox's: a slot goes while vCPUs are in guest mode, and only
// the CPU that removes it flushes.
TEST(BusyVm, NoVcpuReachesADeletedSlotHoweverBusyItIs) {
  constexpr unsigned kVcpus = 3;
  BusyVm vm({.vcpus = kVcpus});
  std::atomic<bool> deleted{false};
  std::atomic<uint64_t> after{0};
  std::vector<std::thread> vcpus;
  for (unsigned v = 0; v < kVcpus; ++v) {
    vcpus.emplace_back([&, v] {
      GuestVcpu& cpu = vm.small().vcpu(v);
      for (int rounds = 0; rounds < 200;) {
        const bool was_deleted = deleted.load();
        const TouchResult touched = cpu.Touch(BusyVm::InExtra(), Read());
        ASSERT_NE(touched.kind, TouchResult::Kind::kBroken) << touched;
        if (!was_deleted) continue;
        ++rounds;
        EXPECT_TRUE(touched.EndedAs(FaultOutcome::Kind::kEmulate)) << touched;
        after.fetch_add(1);
      }
    });
  }
  ASSERT_TRUE(vm.mmu().DeleteSlot(AddressSpace::kNormal, vm.extra().id).ok());
  deleted = true;
  for (std::thread& thread : vcpus) thread.join();
  EXPECT_EQ(after.load(), 200u * kVcpus);
  EXPECT_EQ(vm.small().Violations(), "");
}

}  // namespace
}  // namespace shadowmmu::testing
