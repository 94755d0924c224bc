// Events: what an exception that comes while another, or an interrupt, is being
// delivered becomes (APM vol. 2, 8.2.9).

#include "vcpu/events.h"

#include <gtest/gtest.h>

#include "svm/vmcb.h"

namespace hypervisor {
namespace {

constexpr Exception kPageFault =
    Exception::PageFault(2, shadowmmu::Gva(0x1234000));

uint64_t Encoded(uint64_t type, uint64_t vector) {
  return event::kValid | type << event::kTypeShift | vector;
}
uint64_t WithCode(uint64_t value, uint64_t code) {
  return value | event::kErrorCodeValid | code << event::kErrorCodeShift;
}
// As the CPU reports what it was about to deliver.
Events After(uint64_t exit_int_info) {
  Events events;
  events.TakeExitIntInfo(exit_int_info);
  return events;
}

TEST(Events, APageFaultSetsCr2AndHasItsErrorCode) {
  Events events;
  events.Raise(kPageFault);
  EXPECT_EQ(events.Next(InterruptFlag::kClear),
            WithCode(Encoded(event::kException, 14), 2));
  EXPECT_EQ(events.cr2(), 0x1234000u);
}

TEST(Events, AnInvalidOpcodeHasNoErrorCode) {
  Events events;
  events.Raise(Exception::InvalidOpcode());
  EXPECT_EQ(events.Next(InterruptFlag::kClear), Encoded(event::kException, 6));
  EXPECT_EQ(events.cr2(), std::nullopt);
}

TEST(Events, WhatWasDeliveredIsGone) {
  Events events;
  events.Raise(kPageFault);
  events.Next(InterruptFlag::kClear);
  events.TakeExitIntInfo(0);
  EXPECT_EQ(events.Next(InterruptFlag::kSet), 0u);
  EXPECT_TRUE(events.Idle());
}

TEST(Events, StaleInformationWithoutItsValidBitIsNothing) {
  EXPECT_TRUE(After(Encoded(event::kException, 14) & ~event::kValid).Idle());
}

TEST(Events, AnExceptionWhoseDeliveryExitedIsDeliveredAgain) {
  const uint64_t info = WithCode(Encoded(event::kException, 13), 0x10);
  EXPECT_EQ(After(info).Next(InterruptFlag::kClear), info);
}

TEST(Events, AnInterruptWhoseDeliveryExitedIsDeliveredAgainWhateverIfSays) {
  const uint64_t info = Encoded(event::kInterrupt, 0x31);
  EXPECT_EQ(After(info).Next(InterruptFlag::kClear), info);
}

TEST(Events, ASoftwareInterruptAndABreakpointAreLeftToTheGuest) {
  EXPECT_TRUE(After(Encoded(event::kSoftware, 0x80)).Idle());
  EXPECT_TRUE(After(Encoded(event::kException, 3)).Idle());
}

TEST(Events, APageFaultInADeliveryOfAPageFaultIsADoubleFault) {
  Events events = After(WithCode(Encoded(event::kException, 14), 0));
  events.Raise(kPageFault);
  EXPECT_EQ(events.Next(InterruptFlag::kClear),
            WithCode(Encoded(event::kException, 8), 0));
  EXPECT_EQ(events.cr2(), std::nullopt);
}

TEST(Events, APageFaultInADeliveryOfAProtectionFaultTakesItsPlace) {
  Events events = After(WithCode(Encoded(event::kException, 13), 0));
  events.Raise(kPageFault);
  EXPECT_EQ(events.Next(InterruptFlag::kClear),
            WithCode(Encoded(event::kException, 14), 2));
}

TEST(Events, AProtectionFaultInADeliveryOfAnotherIsADoubleFault) {
  Events events = After(WithCode(Encoded(event::kException, 13), 0));
  events.Raise(Exception::GeneralProtection());
  EXPECT_EQ(events.Next(InterruptFlag::kClear),
            WithCode(Encoded(event::kException, 8), 0));
}

TEST(Events, AnExceptionInADeliveryOfADoubleFaultIsAShutdown) {
  Events events = After(WithCode(Encoded(event::kException, 8), 0));
  EXPECT_FALSE(events.shutdown());
  events.Raise(kPageFault);
  EXPECT_TRUE(events.shutdown());
}

TEST(Events, AnInterruptThatAnExceptionCutShortWaitsForInterruptsToBeOn) {
  Events events = After(Encoded(event::kInterrupt, 0x31));
  events.Raise(kPageFault);
  EXPECT_EQ(events.Next(InterruptFlag::kSet),
            WithCode(Encoded(event::kException, 14), 2));
  events.TakeExitIntInfo(0);
  EXPECT_TRUE(events.InterruptWaits());
  EXPECT_EQ(events.Next(InterruptFlag::kClear), 0u);
  EXPECT_EQ(events.Next(InterruptFlag::kSet), Encoded(event::kInterrupt, 0x31));
  events.TakeExitIntInfo(0);
  EXPECT_FALSE(events.InterruptWaits());
}

TEST(Events, AFaultIsToldFromATrapAndAnInterrupt) {
  Events events;
  events.Interrupt(0x40);
  EXPECT_FALSE(events.Faults());
  events.Raise(Exception::GeneralProtection());
  EXPECT_TRUE(events.Faults());
  events.TakeExitIntInfo(0);
  EXPECT_FALSE(events.Faults());
  events.Raise({ExceptionVector::kDebug, std::nullopt, {}});
  EXPECT_FALSE(events.Faults());
}

TEST(Events, AnNmiIsDeliveredWithInterruptsOff) {
  Events events;
  events.Nmi();
  EXPECT_EQ(events.Next(InterruptFlag::kClear), Encoded(event::kNmi, 2));
  events.TakeExitIntInfo(0);
  EXPECT_TRUE(events.NmiMasked());
  EXPECT_EQ(events.Next(InterruptFlag::kSet), 0u);
}

TEST(Events, AnNmiIsNotDeliveredInAShadow) {
  Events events;
  events.Nmi();
  EXPECT_FALSE(events.Idle()) << "no interrupt is to be acknowledged before it";
  EXPECT_EQ(events.Next(InterruptFlag::kShadow), 0u);
  EXPECT_EQ(events.Next(InterruptFlag::kClear), Encoded(event::kNmi, 2));
}

TEST(Events, AnInterruptThatIsUnderWayComesBeforeAnNmi) {
  Events events = After(Encoded(event::kInterrupt, 0x30));
  events.Nmi();
  EXPECT_EQ(events.Next(InterruptFlag::kClear),
            Encoded(event::kInterrupt, 0x30));
  events.TakeExitIntInfo(0);
  EXPECT_EQ(events.Next(InterruptFlag::kClear), Encoded(event::kNmi, 2));
}

TEST(Events, AnNmiWaitsForTheEndOfTheOneBefore) {
  Events events;
  events.Nmi();
  events.Next(InterruptFlag::kSet);
  events.TakeExitIntInfo(0);
  events.Nmi();
  events.Nmi();
  EXPECT_EQ(events.Next(InterruptFlag::kSet), 0u);
  EXPECT_TRUE(events.NmiWaits());
  events.UnmaskNmi();
  EXPECT_EQ(events.Next(InterruptFlag::kSet), Encoded(event::kNmi, 2));
  events.TakeExitIntInfo(0);
  EXPECT_FALSE(events.NmiWaits());
}

TEST(Events, AnNmiWhoseDeliveryExitedIsDeliveredAgain) {
  Events events;
  events.Nmi();
  const uint64_t nmi = events.Next(InterruptFlag::kClear);
  events.TakeExitIntInfo(nmi);
  EXPECT_EQ(events.Next(InterruptFlag::kClear), nmi);
}

TEST(Events, AnExceptionGoesBeforeAnNmiAndKeepsIt) {
  Events events;
  events.Nmi();
  events.Raise(kPageFault);
  EXPECT_NE(events.Next(InterruptFlag::kClear), Encoded(event::kNmi, 2));
  events.TakeExitIntInfo(0);
  EXPECT_EQ(events.Next(InterruptFlag::kClear), Encoded(event::kNmi, 2));
}

}  // namespace
}  // namespace hypervisor
