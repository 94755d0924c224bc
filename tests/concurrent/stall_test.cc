// A slot update that waits for a reader that does not leave: the Host is told
// for whom, again and again, and the update goes on when the reader has left.

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <string>
#include <thread>

#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {
namespace {

constexpr AddressSpace kNormal = AddressSpace::kNormal;

// What the Host is told first.
class FirstStall {
 public:
  explicit FirstStall(TestHost& host) {
    host.SetStallHook([this](const Stall& stall) {
      if (told_.exchange(true)) return;
      stall_.set_value(stall);
    });
  }
  Stall Wait() { return stall_.get_future().get(); }
  bool told() const { return told_.load(); }

 private:
  std::atomic<bool> told_{false};
  std::promise<Stall> stall_;
};

class Stalled : public ::testing::Test {
 protected:
  Stalled() {
    vm_.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = 64});
    vm_.AddSlot({.id = SlotId{1}, .base = Gfn(0x1000), .pages = 1});
    vm_.AddVcpu();
    vm_.AddVcpu();
  }
  ~Stalled() override { EXPECT_EQ(vm_.Violations(), ""); }

  SmallVm vm_;
};

TEST_F(Stalled, ByAFaultThatItsHostHoldsUp) {
  FirstStall stall(vm_.host());
  std::promise<void> go;
  std::shared_future<void> may_go = go.get_future().share();
  std::promise<void> inside;
  vm_.host().SetResolveHook([&](Hva, AccessType) {
    inside.set_value();
    may_go.wait();
  });
  std::thread fault(
      [&] { EXPECT_TRUE(vm_.vcpu(1).Touch(Gva(0x5000), Write()).hit()); });
  inside.get_future().wait();
  // Another slot than the fault's: it might be this one's, for all that the
  // update knows.
  std::thread update([&] { vm_.DeleteSlot(kNormal, SlotId{1}); });
  const Stall first = stall.Wait();
  EXPECT_STREQ(first.waiting, "a change of the slots");
  EXPECT_STREQ(first.for_whom, "a fault");
  EXPECT_EQ(first.vcpu, VcpuId{1});
  EXPECT_GE(first.milliseconds, 1000u);
  EXPECT_TRUE(vm_.mmu().FindSlot(kNormal, SlotId{0}).has_value());
  go.set_value();
  fault.join();
  update.join();
  EXPECT_FALSE(vm_.mmu().FindSlot(kNormal, SlotId{1}).has_value());
}

TEST_F(Stalled, ByNobody) {
  const FirstStall stall(vm_.host());
  EXPECT_TRUE(vm_.vcpu(0).Touch(Gva(0x5000), Write()).hit());
  vm_.DeleteSlot(kNormal, SlotId{1});
  EXPECT_FALSE(stall.told());
}

}  // namespace
}  // namespace shadowmmu::testing
