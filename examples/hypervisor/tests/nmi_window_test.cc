// NmiWindow: when the guest's IRET has been executed, by the exits that a CPU
// makes.

#include "vcpu/nmi_window.h"

#include <gtest/gtest.h>

#include "emulate/cpu_state.h"
#include "svm/vmcb.h"
#include "vcpu/events.h"

namespace hypervisor {
namespace {

class NmiWindowTest : public testing::Test {
 protected:
  static constexpr uint64_t kIret = 0x1000;

  // An NMI has been delivered.
  NmiWindowTest() {
    events_.Nmi();
    events_.Next(InterruptFlag::kClear);
    events_.TakeExitIntInfo(0);
    vmcb_.rflags = rflags::kFixed;
  }

  NmiWindow::Exit Exit(ExitCode code, uint64_t rip) {
    vmcb_.exit_code = static_cast<uint64_t>(code);
    vmcb_.rip = rip;
    const NmiWindow::Exit exit = window_.AfterExit(events_, vmcb_);
    window_.BeforeEntry(events_, vmcb_);
    return exit;
  }
  bool IretExits() { return (vmcb_.intercepts_1 & intercept_1::kIret) != 0; }
  bool Steps() { return (vmcb_.rflags & rflags::kTf) != 0; }

  Events events_;
  Vmcb vmcb_ = {};
  NmiWindow window_;
};

TEST_F(NmiWindowTest, IretExitsWhileNmisAreMasked) {
  window_.BeforeEntry(events_, vmcb_);
  EXPECT_TRUE(IretExits());
  EXPECT_EQ(Exit(ExitCode::kIret, kIret), NmiWindow::Exit::kOwn);
  EXPECT_FALSE(IretExits());
  EXPECT_FALSE(Steps()) << "nothing waits";
  EXPECT_TRUE(events_.NmiMasked());
  EXPECT_EQ(Exit(ExitCode::kIoio, 0x2000), NmiWindow::Exit::kAnother);
  EXPECT_FALSE(events_.NmiMasked());
  EXPECT_FALSE(IretExits());
}

TEST_F(NmiWindowTest, AnNmiThatWaitsComesRightAfterIret) {
  events_.Nmi();
  Exit(ExitCode::kIret, kIret);
  EXPECT_TRUE(Steps());
  EXPECT_NE(vmcb_.intercept_exceptions & 2, 0u);
  vmcb_.rflags = rflags::kFixed;  // IRET has loaded it
  vmcb_.dr6 |= 1u << 14;
  EXPECT_EQ(Exit(ExitCode::kDebug, 0x2000), NmiWindow::Exit::kOwn);
  EXPECT_FALSE(events_.NmiMasked());
  EXPECT_EQ(vmcb_.dr6, 0u) << "the step was not the guest's";
  EXPECT_EQ(vmcb_.intercept_exceptions & 2, 0u);
  EXPECT_NE(events_.Next(InterruptFlag::kClear), 0u);
}

TEST_F(NmiWindowTest, AnIretThatFaultsIsWaitedForAgain) {
  events_.Nmi();
  Exit(ExitCode::kIret, kIret);
  EXPECT_EQ(Exit(ExitCode::kPageFault, kIret), NmiWindow::Exit::kAnother);
  EXPECT_FALSE(Steps());
  EXPECT_TRUE(events_.NmiMasked());
  EXPECT_TRUE(IretExits());
}

TEST_F(NmiWindowTest, TheGuestsOwnStepIsNotLost) {
  events_.Nmi();
  vmcb_.rflags |= rflags::kTf;
  Exit(ExitCode::kIret, kIret);
  Exit(ExitCode::kDebug, 0x2000);
  EXPECT_FALSE(events_.Idle());
}

}  // namespace
}  // namespace hypervisor
