// Uart, driven as Linux's 8250 driver drives one.

#include "devices/uart.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "tests/fake_board.h"

namespace hypervisor::testing {
namespace {

constexpr uint16_t kBase = 0x3f8;

class UartTest : public ::testing::Test {
 protected:
  uint8_t In(unsigned reg) {
    return static_cast<uint8_t>(
        uart_.In(static_cast<uint16_t>(kBase + reg), 1));
  }
  void Out(unsigned reg, uint8_t value) {
    uart_.Out(static_cast<uint16_t>(kBase + reg), 1, value);
  }

  std::string sent_;
  FakeLine line_;
  Uart uart_{kBase, line_, [this](char byte) { sent_.push_back(byte); }};
};

TEST_F(UartTest, WhatIsWrittenIsSentAtOnce) {
  for (const char byte : std::string("ok\n")) {
    EXPECT_EQ(In(5), 0x60);  // THRE and TEMT: room for the next
    Out(0, static_cast<uint8_t>(byte));
  }
  EXPECT_EQ(sent_, "ok\n");
}

TEST_F(UartTest, InterruptEnableKeepsFourBits) {
  Out(1, 0);
  EXPECT_EQ(In(1) & 0x0f, 0);
  Out(1, 0xff);
  EXPECT_EQ(In(1), 0x0f);
}

TEST_F(UartTest, LoopbackShowsModemOutputsAsInputs) {
  Out(4, 0x10 | 0x0a);            // RTS and OUT2
  EXPECT_EQ(In(6) & 0xf0, 0x90);  // CTS and DCD: autoconfig's test
  Out(4, 0x10 | 0x05);            // DTR and OUT1
  EXPECT_EQ(In(6) & 0xf0, 0x60);  // DSR and RI
}

TEST_F(UartTest, FifoBitsSay16550A) {
  EXPECT_EQ(In(2) >> 6, 0);
  Out(2, 0x01);
  EXPECT_EQ(In(2) >> 6, 3);
  // Not a 16750 either: no 64-byte FIFO behind DLAB.
  Out(3, 0x80);
  Out(2, 0x21);
  EXPECT_EQ(In(2) >> 5, 6);
}

TEST_F(UartTest, FifoInLoopbackHoldsSixteenBytes) {
  Out(2, 0x07);
  Out(4, 0x10);
  for (unsigned i = 0; i < 256; ++i) Out(0, static_cast<uint8_t>(i));
  unsigned count = 0;
  while ((In(5) & 1) != 0 && count < 256) EXPECT_EQ(In(0), count++);
  EXPECT_EQ(count, 16u);
  EXPECT_EQ(sent_, "") << "loopback disconnects the transmitter";
}

TEST_F(UartTest, DivisorLatchHidesDataAndInterruptEnable) {
  Out(1, 0x05);
  Out(3, 0x83);
  Out(0, 0x34);
  Out(1, 0x12);
  EXPECT_EQ(In(0), 0x34);
  EXPECT_EQ(In(1), 0x12);
  Out(3, 0x03);
  EXPECT_EQ(In(1), 0x05);
  EXPECT_EQ(sent_, "");
}

TEST_F(UartTest, ScratchReadsBack) {
  Out(7, 0xa5);
  EXPECT_EQ(In(7), 0xa5);
}

TEST_F(UartTest, EnablingTransmitterInterruptRaisesItEachTime) {
  // The driver's THRE test: it must come again after IIR was read.
  Out(4, 0x08);
  for (int i = 0; i < 2; ++i) {
    Out(1, 0x02);
    EXPECT_TRUE(line_.high());
    EXPECT_EQ(In(2), 0x02);
    EXPECT_FALSE(line_.high());
    EXPECT_EQ(In(2), 0x01) << "reading IIR withdrew it";
    Out(1, 0x00);
  }
}

TEST_F(UartTest, EachByteSentMakesAnEdge) {
  Out(4, 0x08);
  Out(1, 0x02);
  line_.TakeRises();
  Out(0, 'a');
  EXPECT_EQ(line_.TakeRises(), 1u);
  Out(0, 'b');
  EXPECT_EQ(line_.TakeRises(), 1u);
}

TEST_F(UartTest, LineIsGatedByOut2AndClosedInLoopback) {
  Out(1, 0x02);
  EXPECT_FALSE(line_.high());
  Out(4, 0x08);
  EXPECT_TRUE(line_.high());
  Out(4, 0x18);
  EXPECT_FALSE(line_.high());
}

TEST_F(UartTest, ReceivedBytesInterruptAndWaitInOrder) {
  Out(4, 0x08);
  Out(1, 0x01);
  uart_.Receive('x');
  uart_.Receive('y');
  EXPECT_TRUE(line_.high());
  EXPECT_EQ(In(2), 0x04);
  EXPECT_EQ(In(5), 0x61);
  EXPECT_EQ(In(0), 'x');
  EXPECT_EQ(In(0), 'y');
  EXPECT_FALSE(line_.high());
  EXPECT_EQ(In(5), 0x60);
}

TEST_F(UartTest, BelowTheTriggerLevelReceivedDataIsATimeout) {
  Out(2, 0x81);  // trigger at 8
  Out(1, 0x01);
  for (int i = 0; i < 7; ++i) uart_.Receive('x');
  EXPECT_EQ(In(2) & 0x0f, 0x0c);
  uart_.Receive('x');
  EXPECT_EQ(In(2) & 0x0f, 0x04);
}

TEST_F(UartTest, InterruptsHaveTheirPriorities) {
  Out(1, 0x0f);
  Out(4, 0x1f);  // loopback: modem inputs change from CTS DSR DCD
  Out(4, 0x10);
  Out(0, 'a');
  Out(0, 'b');  // overrun: there is no FIFO
  EXPECT_EQ(In(2), 0x06);
  EXPECT_EQ(In(5), 0x63);
  EXPECT_EQ(In(2), 0x04);
  EXPECT_EQ(In(0), 'b');
  EXPECT_EQ(In(2), 0x02);
  EXPECT_EQ(In(2), 0x00);
  In(6);
  EXPECT_EQ(In(2), 0x01);
}

TEST_F(UartTest, WhatArrivesTooFastWaitsAndTooMuchIsDropped) {
  for (size_t i = 0; i < 2 * Uart::kQueueLimit; ++i) {
    uart_.Receive(static_cast<char>(i));
  }
  size_t count = 0;
  while ((In(5) & 1) != 0) {
    EXPECT_EQ(In(0), static_cast<uint8_t>(count));
    ++count;
  }
  EXPECT_EQ(count, Uart::kQueueLimit + 1);
}

}  // namespace
}  // namespace hypervisor::testing
