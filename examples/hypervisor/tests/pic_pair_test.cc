// The 8259A pair, as Linux and others program it.

#include "devices/pic_pair.h"

#include <gtest/gtest.h>

#include <cstdint>

#include "devices/io_bus.h"

namespace hypervisor::testing {
namespace {

class PicPairTest : public ::testing::Test {
 protected:
  PicPairTest() {
    pics_.AttachTo(bus_);
    Initialise(0x01);
  }

  // As Linux does: vectors 0x30 to 0x3f, nothing masked.
  void Initialise(uint8_t icw4) {
    Out(0x20, 0x11);
    Out(0x21, 0x30);
    Out(0x21, 0x04);
    Out(0x21, icw4);
    Out(0xa0, 0x11);
    Out(0xa1, 0x38);
    Out(0xa1, 0x02);
    Out(0xa1, icw4);
    Out(0x21, 0x00);
    Out(0xa1, 0x00);
  }
  uint8_t In(uint16_t port) { return static_cast<uint8_t>(bus_.In(port, 1)); }
  void Out(uint16_t port, uint8_t value) { bus_.Out(port, 1, value); }
  void Raise(unsigned irq) { pics_.line(irq).Set(Signal::kHigh); }
  void Lower(unsigned irq) { pics_.line(irq).Set(Signal::kLow); }
  void Pulse(unsigned irq) {
    Lower(irq);
    Raise(irq);
  }
  // The vector that is taken, or -1.
  int Take() { return pics_.Pending() ? pics_.Acknowledge() : -1; }

  IoBus bus_;
  PicPair pics_;
};

TEST_F(PicPairTest, MaskReadsBack) {
  // How Linux finds out whether a PIC is there.
  Out(0x21, 0xfb);
  EXPECT_EQ(In(0x21), 0xfb);
  Out(0xa1, 0x5a);
  EXPECT_EQ(In(0xa1), 0x5a);
}

TEST_F(PicPairTest, EachLineHasItsVector) {
  for (unsigned irq = 0; irq < 16; ++irq) {
    if (irq == 2) continue;
    Raise(irq);
    EXPECT_EQ(Take(), static_cast<int>(0x30 + irq));
    if (irq >= 8) Out(0xa0, static_cast<uint8_t>(0x60 + irq - 8));
    Out(0x20, static_cast<uint8_t>(0x60 + (irq < 8 ? irq : 2)));
  }
  EXPECT_EQ(Take(), -1);
}

TEST_F(PicPairTest, MaskedRequestWaitsForItsUnmasking) {
  Out(0x21, 0x01);
  Raise(0);
  EXPECT_EQ(Take(), -1);
  EXPECT_EQ(In(0x20), 0x01) << "IRR shows masked requests";
  Out(0x21, 0x00);
  EXPECT_EQ(Take(), 0x30);
}

TEST_F(PicPairTest, HigherPriorityNestsAndLowerWaits) {
  Raise(4);
  EXPECT_EQ(Take(), 0x34);
  Raise(5);
  EXPECT_EQ(Take(), -1);
  Raise(1);
  EXPECT_EQ(Take(), 0x31);
  Out(0x20, 0x20);  // ends IRQ 1, the highest in service
  EXPECT_EQ(Take(), -1);
  Out(0x20, 0x20);  // ends IRQ 4
  EXPECT_EQ(Take(), 0x35);
}

TEST_F(PicPairTest, SlaveStandsBetweenLines1And3) {
  Raise(3);
  Raise(8);
  Raise(1);
  EXPECT_EQ(Take(), 0x31);
  Out(0x20, 0x20);
  EXPECT_EQ(Take(), 0x38);
  EXPECT_EQ(Take(), -1) << "IRQ 8 in service holds IRQ 3 back";
  Out(0xa0, 0x60);
  Out(0x20, 0x62);
  EXPECT_EQ(Take(), 0x33);
}

TEST_F(PicPairTest, SecondSlaveRequestFollowsTheFirst) {
  Raise(12);
  Raise(14);
  EXPECT_EQ(Take(), 0x3c);
  Out(0xa0, 0x64);
  Out(0x20, 0x62);
  EXPECT_EQ(Take(), 0x3e);
}

TEST_F(PicPairTest, SlaveRequestThatIsMaskedIsWithdrawnFromTheMaster) {
  Raise(9);
  Out(0xa1, 0x02);
  EXPECT_EQ(Take(), -1);
  Out(0xa1, 0x00);
  EXPECT_EQ(Take(), 0x39);
}

TEST_F(PicPairTest, EdgeIsLatchedEvenWhenTheLineFalls) {
  Raise(11);
  Lower(11);
  EXPECT_EQ(Take(), 0x3b);
  Out(0xa0, 0x20);
  Out(0x20, 0x20);
  EXPECT_EQ(Take(), -1);
}

TEST_F(PicPairTest, HighLineMakesOneEdge) {
  Raise(4);
  Raise(4);
  EXPECT_EQ(Take(), 0x34);
  Out(0x20, 0x20);
  EXPECT_EQ(Take(), -1);
  Pulse(4);
  EXPECT_EQ(Take(), 0x34);
}

TEST_F(PicPairTest, EdgeDuringServiceComesAfterIt) {
  Raise(4);
  EXPECT_EQ(Take(), 0x34);
  Pulse(4);
  Pulse(4);
  EXPECT_EQ(Take(), -1);
  Out(0x20, 0x64);
  EXPECT_EQ(Take(), 0x34);
  Out(0x20, 0x64);
  EXPECT_EQ(Take(), -1) << "edges coalesce";
}

TEST_F(PicPairTest, LevelTriggeredLineInterruptsWhileHigh) {
  Out(0x4d1, 0xff);
  EXPECT_EQ(In(0x4d1), 0xde) << "IRQ 8 and 13 stay edge triggered";
  Raise(11);
  EXPECT_EQ(Take(), 0x3b);
  Out(0xa0, 0x20);
  Out(0x20, 0x20);
  EXPECT_EQ(Take(), 0x3b) << "nobody lowered it";
  Lower(11);
  Out(0xa0, 0x20);
  Out(0x20, 0x20);
  EXPECT_EQ(Take(), -1);
}

TEST_F(PicPairTest, AcknowledgeThatFindsNothingIsSpurious) {
  Out(0x4d0, 0x20);
  Raise(5);
  EXPECT_TRUE(pics_.Pending());
  Lower(5);
  EXPECT_EQ(pics_.Acknowledge(), 0x37);
  Out(0x20, 0x0b);
  EXPECT_EQ(In(0x20), 0) << "a spurious interrupt is not in service";
}

TEST_F(PicPairTest, Ocw3ChoosesWhatIsRead) {
  Raise(3);
  Take();
  Raise(6);
  Out(0x20, 0x0b);
  EXPECT_EQ(In(0x20), 0x08);
  Out(0x20, 0x0a);
  EXPECT_EQ(In(0x20), 0x40);
}

TEST_F(PicPairTest, AutomaticEndOfInterruptLeavesNothingInService) {
  Initialise(0x03);
  Raise(4);
  EXPECT_EQ(Take(), 0x34);
  Raise(5);
  EXPECT_EQ(Take(), 0x35);
  Raise(8);
  Raise(9);
  EXPECT_EQ(Take(), 0x38);
  EXPECT_EQ(Take(), 0x39);
}

TEST_F(PicPairTest, RotationMakesTheServedLineTheLowest) {
  Raise(4);
  EXPECT_EQ(Take(), 0x34);
  Out(0x20, 0xa0);  // rotate on non-specific EOI
  Pulse(4);
  Raise(5);
  EXPECT_EQ(Take(), 0x35);
  Out(0x20, 0xe7);  // end 7 and make it the lowest: the usual order
  Out(0x20, 0x20);
  EXPECT_EQ(Take(), 0x34);
}

TEST_F(PicPairTest, SetPriorityNamesTheLowest) {
  Out(0x20, 0xc4);
  Raise(3);
  Raise(5);
  EXPECT_EQ(Take(), 0x35);
}

TEST_F(PicPairTest, SpecialMaskModeLetsLowerLinesThrough) {
  Raise(1);
  EXPECT_EQ(Take(), 0x31);
  Raise(6);
  EXPECT_EQ(Take(), -1);
  Out(0x21, 0x02);
  Out(0x20, 0x68);
  EXPECT_EQ(Take(), 0x36);
}

TEST_F(PicPairTest, PollTakesTheRequest) {
  Raise(6);
  Out(0x20, 0x0c);
  EXPECT_EQ(In(0x20), 0x86);
  Out(0x20, 0x0b);
  EXPECT_EQ(In(0x20), 0x40);
  EXPECT_EQ(Take(), -1);
  Out(0x20, 0x0c);
  EXPECT_EQ(In(0x20) & 0x80, 0);
}

TEST_F(PicPairTest, InitialisationForgetsEdgesAndMasks) {
  Out(0x21, 0xff);
  Raise(4);
  Initialise(0x01);
  EXPECT_EQ(In(0x21), 0);
  EXPECT_EQ(Take(), -1) << "the line must fall first";
  Pulse(4);
  EXPECT_EQ(Take(), 0x34);
}

TEST_F(PicPairTest, NothingInterruptsBetweenTheInitialisationWords) {
  Out(0x20, 0x11);
  Raise(4);
  EXPECT_EQ(Take(), -1);
  Out(0x21, 0x40);
  Out(0x21, 0x04);
  EXPECT_EQ(Take(), -1);
  Out(0x21, 0x01);
  EXPECT_EQ(Take(), 0x44);
}

}  // namespace
}  // namespace hypervisor::testing
