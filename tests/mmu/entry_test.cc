// Entering the guest: what is due is served first, whenever it comes.

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <utility>

#include "shadowmmu/default_host.h"
#include "shadowmmu/mmu.h"
#include "shadowmmu/vcpu_mmu.h"
#include "src/mmu/roots.h"
#include "src/mmu/vcpu_state.h"
#include "src/mmu/vm.h"

namespace shadowmmu {
namespace {

// Runs `during_flush` in the middle of an entry: when the vCPU flushes its own
// TLB, having taken the requests that it knew of.
class EntryHost : public DefaultHost {
 public:
  void FlushTlb(const VcpuSet&, FlushRange) override {
    if (during_flush) std::exchange(during_flush, nullptr)();
  }
  std::function<void()> during_flush;
};

class Entry : public ::testing::Test {
 protected:
  Entry()
      : mmu_(*Mmu::Create(
            {.host = &host_, .table_capacity = 64, .max_vcpus = 2})),
        vcpu_(*mmu_->CreateVcpu(VcpuId{0})) {}

  bool RootIsUsable() {
    Vm& vm = mmu_->internals();
    const VmLock held(vm);
    return RootUsable(vm, vm.vcpus[0]->root);
  }
  uint32_t RequestsLeft() {
    Vm& vm = mmu_->internals();
    const VmLock held(vm);
    return vm.vcpus[0]->requests.load();
  }

  EntryHost host_;
  std::unique_ptr<Mmu> mmu_;
  std::unique_ptr<VcpuMmu> vcpu_;
};

TEST_F(Entry, ServesARequestThatComesInTheMiddleOfIt) {
  bool bumped = false;
  host_.during_flush = [&] {
    mmu_->BumpGeneration();
    bumped = true;
  };
  ASSERT_TRUE(vcpu_->EnterGuest().resume());
  EXPECT_TRUE(bumped);
  EXPECT_TRUE(RootIsUsable()) << "it entered with an obsolete root";
  EXPECT_EQ(RequestsLeft(), 0u);
  vcpu_->ExitGuest();
}

TEST_F(Entry, GivesUpAfterBoundedRoundsIfRequestsKeepComing) {
  int rounds = 0;
  std::function<void()> again = [&] {
    ++rounds;
    mmu_->BumpGeneration();
    // A bump asks for no flush; the vCPU's own INVLPG does.
    vcpu_->Invlpg(Gva(0));
    host_.during_flush = again;
  };
  host_.during_flush = again;
  EXPECT_EQ(vcpu_->EnterGuest().kind, FaultOutcome::Kind::kRetry);
  EXPECT_GT(rounds, 1);
  host_.during_flush = nullptr;
  EXPECT_TRUE(vcpu_->EnterGuest().resume()) << "and then it gets in";
  vcpu_->ExitGuest();
}

}  // namespace
}  // namespace shadowmmu
