// Rtc: the date, its setting, and memory sizes.

#include "devices/rtc.h"

#include <gtest/gtest.h>

#include <cstdint>

#include "tests/fake_board.h"

namespace hypervisor::testing {
namespace {

// 2024-02-29 23:59:58 UTC, a Thursday.
constexpr uint64_t kLeapDay = 1709251198;

class RtcTest : public ::testing::Test {
 protected:
  uint8_t Read(uint8_t index) {
    rtc_.Out(0x70, 1, index);
    return static_cast<uint8_t>(rtc_.In(0x71, 1));
  }
  void Write(uint8_t index, uint8_t value) {
    rtc_.Out(0x70, 1, index);
    rtc_.Out(0x71, 1, value);
  }

  FakeClock clock_;
  Rtc rtc_{clock_, kLeapDay, uint64_t{512} << 20};
};

TEST_F(RtcTest, TellsTheDateInBcd) {
  EXPECT_EQ(Read(0), 0x58);
  EXPECT_EQ(Read(2), 0x59);
  EXPECT_EQ(Read(4), 0x23);
  EXPECT_EQ(Read(6), 5);
  EXPECT_EQ(Read(7), 0x29);
  EXPECT_EQ(Read(8), 0x02);
  EXPECT_EQ(Read(9), 0x24);
  EXPECT_EQ(Read(0x32), 0x20);
  EXPECT_EQ(Read(0x0d), 0x80) << "the battery is good";
}

TEST_F(RtcTest, TimePassesOverTheMonthsEnd) {
  clock_.Pass(2 * kNanosecondsPerSecond);
  EXPECT_EQ(Read(0), 0x00);
  EXPECT_EQ(Read(4), 0x00);
  EXPECT_EQ(Read(7), 0x01);
  EXPECT_EQ(Read(8), 0x03);
}

TEST_F(RtcTest, BinaryAndTwelveHourModes) {
  Write(0x0b, 0x06);
  EXPECT_EQ(Read(0), 58);
  EXPECT_EQ(Read(4), 23);
  Write(0x0b, 0x00);
  EXPECT_EQ(Read(4), 0x91) << "11 pm";
  clock_.Pass(2 * kNanosecondsPerSecond);
  EXPECT_EQ(Read(4), 0x12) << "midnight is 12 am";
  clock_.Pass(12 * 3600 * kNanosecondsPerSecond);
  EXPECT_EQ(Read(4), 0x92) << "noon is 12 pm";
  Write(4, 0x81);
  Write(0x0b, 0x02);
  EXPECT_EQ(Read(4), 0x13);
}

TEST_F(RtcTest, NmiMaskInTheIndexIsIgnored) { EXPECT_EQ(Read(0x80), 0x58); }

TEST_F(RtcTest, UpdateInProgressJustBeforeTheSecondChanges) {
  EXPECT_EQ(Read(0x0a) & 0x80, 0);
  clock_.Set(kNanosecondsPerSecond - 1'000'000);
  EXPECT_EQ(Read(0x0a) & 0x80, 0x80);
  EXPECT_EQ(Read(0), 0x58);
  clock_.Set(kNanosecondsPerSecond);
  EXPECT_EQ(Read(0x0a) & 0x80, 0);
  EXPECT_EQ(Read(0), 0x59);
}

TEST_F(RtcTest, DateIsSetFieldByFieldWhileSetIsOn) {
  Write(0x0b, 0x82);
  Write(7, 0x31);  // not a day of February, and that must not matter
  Write(8, 0x12);
  Write(9, 0x99);
  Write(0x32, 0x19);
  clock_.Pass(10 * kNanosecondsPerSecond);
  EXPECT_EQ(Read(0), 0x58) << "it stands still";
  Write(0x0b, 0x02);
  clock_.Pass(2 * kNanosecondsPerSecond);
  EXPECT_EQ(Read(9), 0x00);
  EXPECT_EQ(Read(0x32), 0x20);
  EXPECT_EQ(Read(7), 0x01);
}

TEST_F(RtcTest, NonsenseInDateIsSurvived) {
  static constexpr uint8_t kDateRegisters[] = {0, 2, 4, 6, 7, 8, 9, 0x32};
  for (unsigned value = 0; value < 256; ++value) {
    for (const uint8_t index : kDateRegisters) {
      Write(index, static_cast<uint8_t>(value));
      Read(index);
    }
  }
}

TEST_F(RtcTest, MemorySizesAreWhereFirmwarePutsThem) {
  EXPECT_EQ(Read(0x15) | Read(0x16) << 8, 640);
  EXPECT_EQ(Read(0x17) | Read(0x18) << 8, 0xffff) << "KiB, no more fit";
  EXPECT_EQ(Read(0x34) | Read(0x35) << 8, (512 - 16) * 16);
  EXPECT_EQ(Read(0x5b) | Read(0x5c) << 8 | Read(0x5d) << 16, 0);
}

TEST_F(RtcTest, OtherBytesAreMemory) {
  Write(0x0f, 0x0a);
  EXPECT_EQ(Read(0x0f), 0x0a);
  EXPECT_EQ(Read(0x0c), 0);
}

}  // namespace
}  // namespace hypervisor::testing
