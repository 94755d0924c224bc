// Pit, by a clock that the test moves.

#include "devices/pit.h"

#include <gtest/gtest.h>

#include <cstdint>

#include "devices/io_bus.h"
#include "tests/fake_board.h"

namespace hypervisor::testing {
namespace {

class PitTest : public ::testing::Test {
 protected:
  PitTest() { pit_.AttachTo(bus_); }

  uint8_t In(uint16_t port) { return static_cast<uint8_t>(bus_.In(port, 1)); }
  void Out(uint16_t port, uint8_t value) { bus_.Out(port, 1, value); }
  // Control word and count for channel `channel`, low byte first.
  void Program(unsigned channel, unsigned mode, uint16_t count,
               unsigned bcd = 0) {
    Out(0x43, static_cast<uint8_t>(channel << 6 | 0x30 | mode << 1 | bcd));
    const auto port = static_cast<uint16_t>(0x40 + channel);
    Out(port, static_cast<uint8_t>(count));
    Out(port, static_cast<uint8_t>(count >> 8));
  }
  // The latched count.
  unsigned Count(unsigned channel) {
    Out(0x43, static_cast<uint8_t>(channel << 6));
    const auto port = static_cast<uint16_t>(0x40 + channel);
    const unsigned low = In(port);
    return low | In(port) << 8;
  }
  // Moves the clock to the moment at which `ticks` clocks have passed since the
  // test began.
  void AtTick(uint64_t ticks) {
    clock_.Set((ticks * kNanosecondsPerSecond + Pit::kHertz - 1) / Pit::kHertz);
    pit_.Advance();
  }
  unsigned Edges() { return line_.TakeRises(); }
  bool Speaker() { return (In(0x61) & 0x20) != 0; }

  FakeClock clock_;
  FakeLine line_;
  IoBus bus_;
  Pit pit_{clock_, line_};
};

TEST_F(PitTest, RateGeneratorInterruptsOncePerPeriod) {
  Program(0, 2, 1000);  // loaded at tick 1
  Edges();
  AtTick(1000);
  EXPECT_EQ(Edges(), 0u);
  AtTick(1001);
  EXPECT_EQ(Edges(), 1u);
  AtTick(2000);
  EXPECT_EQ(Edges(), 0u);
  AtTick(2001);
  EXPECT_EQ(Edges(), 1u);
}

TEST_F(PitTest, NextEventIsExactlyTheNextEdge) {
  Program(0, 2, 1000);
  Edges();
  for (int i = 0; i < 5; ++i) {
    const uint64_t due = pit_.NextEvent().value();
    clock_.Set(due - 1);
    pit_.Advance();
    EXPECT_EQ(Edges(), 0u);
    clock_.Set(due);
    pit_.Advance();
    EXPECT_EQ(Edges(), 1u);
  }
}

TEST_F(PitTest, UnseenTicksAreOneEdgeAndTheCountIsTrue) {
  Program(0, 2, 1000);
  Edges();
  AtTick(1 + 50 * 1000 + 300);
  EXPECT_EQ(Edges(), 1u);
  EXPECT_EQ(Count(0), 700u);
  AtTick(1 + 51 * 1000);
  EXPECT_EQ(Edges(), 1u) << "the phase is kept";
}

TEST_F(PitTest, EdgeThatWasLateDoesNotSwallowTheNext) {
  Program(0, 2, 100);
  Edges();
  AtTick(1 + 199);  // 99 late
  EXPECT_EQ(Edges(), 1u);
  AtTick(1 + 200);  // so close that it is put off
  EXPECT_EQ(Edges(), 0u);
  clock_.Set(pit_.NextEvent().value());
  pit_.Advance();
  EXPECT_EQ(Edges(), 1u);
}

TEST_F(PitTest, ShortestPeriodIsBounded) {
  Program(0, 2, 1);
  Edges();
  uint64_t before = 0;
  for (int i = 0; i < 10; ++i) {
    const uint64_t due = pit_.NextEvent().value();
    if (i != 0) {
      EXPECT_GE(due, before + Pit::kShortestPeriod);
    }
    clock_.Set(due);
    pit_.Advance();
    before = due;
  }
}

TEST_F(PitTest, SquareWaveCountsByTwoAndInterruptsOncePerPeriod) {
  Program(0, 3, 1000);
  Edges();
  AtTick(1 + 100);
  EXPECT_EQ(Count(0), 800u);
  AtTick(1 + 500 + 100);
  EXPECT_EQ(Count(0), 800u);
  EXPECT_EQ(Edges(), 0u);
  AtTick(1 + 1000);
  EXPECT_EQ(Edges(), 1u);
}

TEST_F(PitTest, SoftwareStrobeInterruptsOnce) {
  // Linux's one-shot mode: a new count each time, one control word.
  Out(0x43, 0x38);
  Edges();
  EXPECT_FALSE(pit_.NextEvent().has_value());
  for (int i = 0; i < 3; ++i) {
    const uint64_t start = static_cast<uint64_t>(i) * 5000;
    AtTick(start);
    Out(0x40, 0xe8);
    Out(0x40, 0x03);
    AtTick(start + 1000);
    EXPECT_EQ(Edges(), 0u);
    AtTick(start + 1002);
    EXPECT_EQ(Edges(), 1u);
    EXPECT_FALSE(pit_.NextEvent().has_value());
  }
}

TEST_F(PitTest, StrobeThatIsReprogrammedInTimeDoesNotCome) {
  Program(0, 4, 1000);
  Edges();
  AtTick(900);
  Out(0x40, 0xe8);
  Out(0x40, 0x03);
  AtTick(1500);
  EXPECT_EQ(Edges(), 0u);
  AtTick(1902);
  EXPECT_EQ(Edges(), 1u);
}

TEST_F(PitTest, TerminalCountHoldsTheLineLowUntilItsEnd) {
  Program(0, 0, 1000);
  EXPECT_FALSE(line_.high());
  AtTick(1000);
  EXPECT_FALSE(line_.high());
  AtTick(1001);
  EXPECT_TRUE(line_.high());
  EXPECT_FALSE(pit_.NextEvent().has_value());
  AtTick(1 + 1000 + 5);
  EXPECT_EQ(Count(0), 0xfffbu) << "it counts on past zero";
}

TEST_F(PitTest, CountOfZeroIsTheGreatest) {
  Program(0, 2, 0);
  Edges();
  AtTick(65536);
  EXPECT_EQ(Edges(), 0u);
  AtTick(65537);
  EXPECT_EQ(Edges(), 1u);
}

TEST_F(PitTest, NewRateTakesEffectAfterTheRunningPeriod) {
  Program(0, 2, 1000);
  AtTick(3500);  // in the fourth period
  Edges();
  Out(0x40, 0xf4);  // 500
  Out(0x40, 0x01);
  EXPECT_EQ(Count(0), 501u);
  AtTick(4001);
  EXPECT_EQ(Edges(), 1u);
  AtTick(4500);
  EXPECT_EQ(Edges(), 0u);
  AtTick(4501);
  EXPECT_EQ(Edges(), 1u);
}

TEST_F(PitTest, LatchHoldsUntilBothBytesAreRead) {
  Program(0, 2, 0x1234);
  AtTick(1 + 0x34);
  Out(0x43, 0x00);
  AtTick(1 + 0x134);
  Out(0x43, 0x00);  // the second latch command is ignored
  EXPECT_EQ(In(0x40), 0x00);
  EXPECT_EQ(In(0x40), 0x12);
  EXPECT_EQ(Count(0), 0x1100u);
}

TEST_F(PitTest, ReadBackGivesStatusThenCount) {
  Program(2, 0, 0x1000);
  Out(0x43, 0xc8);            // count and status of channel 2
  EXPECT_EQ(In(0x42), 0x30);  // OUT low, loaded, both bytes, mode 0
  EXPECT_EQ(In(0x42), 0x00);
  EXPECT_EQ(In(0x42), 0x10);
  Out(0x43, 0xb0);
  Out(0x43, 0xe8);  // status only
  EXPECT_EQ(In(0x42) & 0x40, 0x40) << "no count was written";
}

TEST_F(PitTest, SingleByteAccess) {
  Out(0x43, 0x14);  // channel 0, low byte, mode 2
  Out(0x40, 100);
  Edges();
  AtTick(101);
  EXPECT_EQ(Edges(), 1u);
  Out(0x43, 0x24);  // high byte
  Out(0x40, 0x02);
  AtTick(101 + 1);
  EXPECT_EQ(In(0x40), 0x02);
  EXPECT_EQ(In(0x40), 0x02);
}

TEST_F(PitTest, CountsInBcd) {
  Out(0x61, 0x01);
  Program(2, 0, 0x1000, 1);
  AtTick(1);
  EXPECT_EQ(Count(2), 0x1000u);
  AtTick(2);
  EXPECT_EQ(Count(2), 0x0999u);
}

TEST_F(PitTest, QuickTscCalibrationSeesTheHighByteCountDown) {
  // Gate open, speaker off, mode 0, count 0xffff: read without latching.
  Out(0x61, static_cast<uint8_t>((In(0x61) & ~0x02) | 0x01));
  Out(0x43, 0xb0);
  Out(0x42, 0xff);
  Out(0x42, 0xff);
  for (unsigned high = 0xff; high > 0xf0; --high) {
    AtTick((0xffu - high) * 256 + 100);
    In(0x42);
    EXPECT_EQ(In(0x42), high);
  }
}

TEST_F(PitTest, SlowTscCalibrationSeesOutput2Rise) {
  Out(0x61, static_cast<uint8_t>((In(0x61) & ~0x02) | 0x01));
  Program(2, 0, 11931);  // 10 ms
  EXPECT_FALSE(Speaker());
  AtTick(11931);
  EXPECT_FALSE(Speaker());
  AtTick(11932);
  EXPECT_TRUE(Speaker());
}

TEST_F(PitTest, GateStopsAndResumesTheCount) {
  Out(0x61, 0x01);
  Program(2, 0, 1000);
  AtTick(1 + 400);
  Out(0x61, 0x00);
  AtTick(5000);
  EXPECT_EQ(Count(2), 600u);
  EXPECT_FALSE(Speaker());
  Out(0x61, 0x01);
  AtTick(5000 + 600);
  EXPECT_TRUE(Speaker());
}

TEST_F(PitTest, GateTriggersTheOneShot) {
  Program(2, 1, 1000);
  EXPECT_TRUE(Speaker());
  Out(0x61, 0x01);
  AtTick(2);
  EXPECT_FALSE(Speaker());
  AtTick(1001);
  EXPECT_TRUE(Speaker());
  Out(0x61, 0x00);
  Out(0x61, 0x01);  // again
  AtTick(1003);
  EXPECT_FALSE(Speaker());
}

TEST_F(PitTest, GateTriggersTheHardwareStrobe) {
  Program(2, 5, 100);
  Out(0x61, 0x01);
  AtTick(100);
  EXPECT_TRUE(Speaker());
  AtTick(101);
  EXPECT_FALSE(Speaker());
  AtTick(102);
  EXPECT_TRUE(Speaker());
}

TEST_F(PitTest, ControlPortBReadsBackAndItsRefreshBitToggles) {
  Out(0x61, 0xff);
  EXPECT_EQ(In(0x61) & 0x0f, 0x0f);
  EXPECT_EQ(In(0x61) & 0xc0, 0) << "no parity error, no channel check";
  const unsigned before = In(0x61) & 0x10;
  clock_.Pass(15'085);
  EXPECT_NE(In(0x61) & 0x10, before);
}

TEST_F(PitTest, WhateverIsWrittenIsSurvived) {
  uint32_t random = 1;
  for (int i = 0; i < 100'000; ++i) {
    random = random * 1664525 + 1013904223;
    static constexpr uint16_t kPorts[] = {0x40, 0x41, 0x42, 0x43, 0x61};
    const uint16_t port = kPorts[(random >> 8) % 5];
    if ((random >> 12 & 3) == 0) {
      In(port);
    } else {
      Out(port, static_cast<uint8_t>(random >> 16));
    }
    clock_.Pass(random >> 24 << (random >> 20 & 15));
    Edges();
    pit_.Advance();
    ASSERT_LE(Edges(), 1u);
  }
}

}  // namespace
}  // namespace hypervisor::testing
