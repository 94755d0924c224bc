// LocalApic: priorities, interprocessor interrupts to itself, the timer.

#include "devices/local_apic.h"

#include <gtest/gtest.h>

#include <cstdint>

#include "tests/fake_board.h"

namespace hypervisor::testing {
namespace {

constexpr uint64_t kTpr = 0x80, kPpr = 0xa0, kEoi = 0xb0, kSvr = 0xf0;
constexpr uint64_t kIcr = 0x300, kIcrHigh = 0x310;
constexpr uint64_t kLvtTimer = 0x320, kLint0 = 0x350, kLvtError = 0x370;
constexpr uint64_t kInitial = 0x380, kCurrent = 0x390, kDivide = 0x3e0;
constexpr uint32_t kSelf = 1u << 18;
constexpr uint32_t kMasked = 1u << 16;
constexpr uint32_t kPeriodic = 1u << 17;

class LocalApicTest : public ::testing::Test {
 protected:
  LocalApicTest() { Write(kSvr, 0x1ff); }

  uint32_t Read(uint64_t reg) {
    return static_cast<uint32_t>(apic_.Read(reg, 4));
  }
  void Write(uint64_t reg, uint32_t value) { apic_.Write(reg, 4, value); }
  void SendToSelf(uint8_t vector) { Write(kIcr, kSelf | vector); }
  int Take() { return apic_.Pending() ? apic_.Acknowledge() : -1; }

  FakeClock clock_;
  LocalApic apic_{clock_, 3};
};

TEST_F(LocalApicTest, SaysWhoItIs) {
  EXPECT_EQ(Read(0x20), 3u << 24);
  EXPECT_EQ(Read(0x30) & 0xff, 0x14u);
  EXPECT_EQ(Read(0x30) >> 16 & 0xff, 5u) << "six LVT entries";
}

TEST_F(LocalApicTest, InterruptGoesFromRequestToServiceToNothing) {
  SendToSelf(0x41);
  EXPECT_EQ(Read(0x220), 1u << 1);
  EXPECT_EQ(Take(), 0x41);
  EXPECT_EQ(Read(0x220), 0u);
  EXPECT_EQ(Read(0x120), 1u << 1);
  Write(kEoi, 0);
  EXPECT_EQ(Read(0x120), 0u);
}

TEST_F(LocalApicTest, HigherClassNestsAndSameClassWaits) {
  SendToSelf(0x41);
  EXPECT_EQ(Take(), 0x41);
  SendToSelf(0x4f);
  EXPECT_EQ(Take(), -1);
  SendToSelf(0x50);
  EXPECT_EQ(Take(), 0x50);
  Write(kEoi, 0);
  EXPECT_EQ(Take(), -1);
  Write(kEoi, 0);
  EXPECT_EQ(Take(), 0x4f);
}

TEST_F(LocalApicTest, TaskPriorityHoldsItsClassBack) {
  Write(kTpr, 0x50);
  EXPECT_EQ(Read(kPpr), 0x50u);
  SendToSelf(0x5f);
  EXPECT_EQ(Take(), -1);
  SendToSelf(0x60);
  EXPECT_EQ(Take(), 0x60);
  EXPECT_EQ(Read(kPpr), 0x60u);
  Write(kEoi, 0);
  apic_.SetTaskPriorityClass(4);
  EXPECT_EQ(Read(kTpr), 0x40u);
  EXPECT_EQ(Take(), 0x5f);
}

TEST_F(LocalApicTest, CommandReachesThisCpuByEveryName) {
  const auto arrives = [this](uint32_t destination, uint32_t command) {
    Write(kIcrHigh, destination << 24);
    Write(kIcr, command | 0x80);
    const bool taken = Take() == 0x80;
    Write(kEoi, 0);
    return taken;
  };
  constexpr uint32_t kLogical = 1u << 11;
  EXPECT_TRUE(arrives(3, 0));
  EXPECT_TRUE(arrives(0xff, 0));
  EXPECT_FALSE(arrives(2, 0));
  EXPECT_TRUE(arrives(0, 2u << 18)) << "all including self";
  EXPECT_FALSE(arrives(3, 3u << 18)) << "all excluding self";
  Write(0xd0, 0x02000000);
  EXPECT_TRUE(arrives(0x06, kLogical));
  EXPECT_FALSE(arrives(0x05, kLogical));
  Write(0xe0, 0x0fffffff);  // clusters
  Write(0xd0, 0x21000000);
  EXPECT_TRUE(arrives(0x23, kLogical));
  EXPECT_FALSE(arrives(0x13, kLogical));
}

TEST_F(LocalApicTest, NmiToItselfWaitsUntilItIsTaken) {
  constexpr uint32_t kNmi = 4u << 8;
  constexpr uint32_t kAllButSelf = 3u << 18;
  Write(kIcr, kAllButSelf | kNmi);
  EXPECT_FALSE(apic_.TakeNmi());
  Write(kIcrHigh, 3u << 24);
  Write(kIcr, kNmi);
  Write(kIcr, kNmi);
  EXPECT_EQ(Take(), -1) << "no vector";
  EXPECT_TRUE(apic_.TakeNmi());
  EXPECT_FALSE(apic_.TakeNmi()) << "two are one";
}

TEST_F(LocalApicTest, StartOfOtherCpusReachesNobody) {
  constexpr uint32_t kAllButSelf = 3u << 18;
  Write(kIcr, kAllButSelf | 0x4500);  // INIT
  Write(kIcr, kAllButSelf | 0x4600);  // start-up
  EXPECT_EQ(Read(kIcr) & 1u << 12, 0u) << "it is never busy";
  EXPECT_EQ(Take(), -1);
  EXPECT_FALSE(apic_.TakeNmi());
}

TEST_F(LocalApicTest, IllegalVectorIsAnErrorThatInterrupts) {
  Write(kLvtError, 0xe0);
  SendToSelf(0x0f);
  EXPECT_EQ(Take(), 0xe0);
  EXPECT_EQ(Read(0x280), 0u) << "ESR is filled by a write";
  Write(0x280, 0);
  EXPECT_EQ(Read(0x280), 1u << 5);
  Write(0x280, 0);
  EXPECT_EQ(Read(0x280), 0u);
}

TEST_F(LocalApicTest, ErrorVectorThatIsIllegalItselfEnds) {
  Write(kLvtError, 0x05);
  SendToSelf(0x0f);
  Write(0x280, 0);
  EXPECT_EQ(Read(0x280), 1u << 5 | 1u << 6);
}

TEST_F(LocalApicTest, SpuriousVectorWhenThereIsNothing) {
  Write(kSvr, 0x1ef);
  EXPECT_EQ(apic_.Acknowledge(), 0xef);
  EXPECT_EQ(Read(0x170), 0u);
}

TEST_F(LocalApicTest, SoftwareDisableMasksAndRefuses) {
  Write(kLvtTimer, 0x30);
  Write(kSvr, 0xff);
  EXPECT_NE(Read(kLvtTimer) & kMasked, 0u);
  SendToSelf(0x40);
  Write(kLvtTimer, 0x30);
  EXPECT_NE(Read(kLvtTimer) & kMasked, 0u);
  Write(kSvr, 0x1ff);
  EXPECT_EQ(Take(), -1);
}

TEST_F(LocalApicTest, PicPassesWhileDisabledOrByExtInt) {
  EXPECT_FALSE(apic_.PassesExtInt()) << "enabled, LINT0 masked";
  Write(kLint0, 0x700);
  EXPECT_TRUE(apic_.PassesExtInt());
  Write(kLint0, kMasked | 0x700);
  EXPECT_FALSE(apic_.PassesExtInt());
  Write(kSvr, 0xff);
  EXPECT_TRUE(apic_.PassesExtInt());
  Write(kSvr, 0x1ff);
  apic_.SetGlobalEnable(LocalApic::GlobalEnable::kDisabled);
  EXPECT_TRUE(apic_.PassesExtInt());
  EXPECT_EQ(Read(0x30), 0xffffffffu);
}

TEST_F(LocalApicTest, ResetStatePassesThePic) {
  LocalApic apic(clock_, 0);
  EXPECT_TRUE(apic.PassesExtInt());
  EXPECT_FALSE(apic.Pending());
}

TEST_F(LocalApicTest, OneShotTimerInterruptsOnceAtItsTime) {
  Write(kDivide, 0x3);  // by 16
  Write(kLvtTimer, 0x30);
  Write(kInitial, 1000);
  EXPECT_EQ(apic_.NextEvent(), 16'000u);
  clock_.Set(15'999);
  apic_.Advance();
  EXPECT_EQ(Take(), -1);
  EXPECT_EQ(Read(kCurrent), 1u);
  clock_.Set(16'000);
  apic_.Advance();
  EXPECT_EQ(Take(), 0x30);
  EXPECT_EQ(Read(kCurrent), 0u);
  EXPECT_FALSE(apic_.NextEvent().has_value());
}

TEST_F(LocalApicTest, PeriodicTimerKeepsItsPhaseAndCoalesces) {
  Write(kDivide, 0xb);  // by 1
  Write(kLvtTimer, kPeriodic | 0x30);
  Write(kInitial, 1'000'000);
  clock_.Set(5'300'000);
  apic_.Advance();
  EXPECT_EQ(Take(), 0x30);
  Write(kEoi, 0);
  EXPECT_EQ(Take(), -1);
  EXPECT_EQ(Read(kCurrent), 700'000u);
  EXPECT_EQ(apic_.NextEvent(), 6'000'000u);
}

TEST_F(LocalApicTest, ShortestPeriodIsBounded) {
  Write(kDivide, 0xb);
  Write(kLvtTimer, kPeriodic | 0x30);
  Write(kInitial, 1);
  clock_.Set(apic_.NextEvent().value());
  apic_.Advance();
  EXPECT_GE(apic_.NextEvent().value(), clock_.Nanoseconds() + 10'000);
}

TEST_F(LocalApicTest, MaskedTimerCountsAndDoesNotInterrupt) {
  Write(kDivide, 0xb);
  Write(kInitial, 1000);
  EXPECT_FALSE(apic_.NextEvent().has_value());
  clock_.Set(400);
  EXPECT_EQ(Read(kCurrent), 600u);
  clock_.Set(2000);
  EXPECT_EQ(Read(kCurrent), 0u);
  EXPECT_EQ(Take(), -1);
}

TEST_F(LocalApicTest, CountOfZeroStopsTheTimer) {
  Write(kLvtTimer, 0x30);
  Write(kInitial, 1000);
  Write(kInitial, 0);
  EXPECT_FALSE(apic_.NextEvent().has_value());
  clock_.Set(1'000'000);
  apic_.Advance();
  EXPECT_EQ(Take(), -1);
}

TEST_F(LocalApicTest, NarrowReadsSeeTheRegistersBytes) {
  EXPECT_EQ(apic_.Read(0x23, 1) & 0xff, 3u);
  EXPECT_EQ(apic_.Read(0x24, 4), 0u);
}

TEST_F(LocalApicTest, AnNmiIsNoRequestAndNeedsNoSoftwareEnable) {
  constexpr uint32_t kNmi = 4u << 8;
  EXPECT_FALSE(apic_.TakeNmi());
  Write(kSvr, 0xff);
  Write(kIcr, kSelf | kNmi);
  EXPECT_EQ(Take(), -1);
  EXPECT_TRUE(apic_.TakeNmi());
  EXPECT_FALSE(apic_.TakeNmi());
}

TEST_F(LocalApicTest, AnNmiForAnotherVanishes) {
  constexpr uint32_t kNmi = 4u << 8;
  Write(kIcrHigh, 4u << 24);
  Write(kIcr, kNmi);
  EXPECT_FALSE(apic_.TakeNmi());
  Write(kIcrHigh, 3u << 24);
  Write(kIcr, kNmi);
  EXPECT_TRUE(apic_.TakeNmi());
}

}  // namespace
}  // namespace hypervisor::testing
