// IoApic: its registers, edges and levels, and masks.

#include "devices/io_apic.h"

#include <gtest/gtest.h>

#include <cstdint>

#include "devices/apic_bus.h"
#include "devices/local_apic.h"
#include "tests/fake_board.h"

namespace hypervisor::testing {
namespace {

constexpr uint32_t kLevel = 1u << 15;
constexpr uint32_t kRemoteIrr = 1u << 14;
constexpr uint32_t kMasked = 1u << 16;

class IoApicTest : public ::testing::Test {
 protected:
  IoApicTest() {
    bus_.Attach(cpu_);
    cpu_.Write(0xf0, 4, 0x1ff);
    cpu_.OnEndOfLevel([this](uint8_t vector) { io_.EndOfInterrupt(vector); });
  }
  uint32_t Read(uint8_t reg) {
    io_.Write(0, 4, reg);
    return static_cast<uint32_t>(io_.Read(0x10, 4));
  }
  void Write(uint8_t reg, uint32_t value) {
    io_.Write(0, 4, reg);
    io_.Write(0x10, 4, value);
  }
  uint32_t ReadLine(unsigned line) {
    return Read(static_cast<uint8_t>(0x10 + 2 * line));
  }
  void SetEntry(unsigned line, uint32_t low, uint8_t destination = 0) {
    const auto reg = static_cast<uint8_t>(0x10 + 2 * line);
    Write(static_cast<uint8_t>(reg + 1), uint32_t{destination} << 24);
    Write(reg, low);
  }
  void Pulse(unsigned line) {
    io_.SetLine(line, Signal::kHigh);
    io_.SetLine(line, Signal::kLow);
  }
  int Take() { return cpu_.Pending() ? cpu_.Acknowledge() : -1; }
  void End() { cpu_.Write(0xb0, 4, 0); }

  FakeClock clock_;
  LocalApic cpu_{clock_, 0};
  ApicBus bus_;
  IoApic io_{bus_};
};

TEST_F(IoApicTest, SaysWhatItIsAndIsMaskedAtFirst) {
  EXPECT_EQ(Read(1), 0x00170011u);
  for (unsigned line = 0; line < IoApic::kLines; ++line) {
    EXPECT_EQ(ReadLine(line), kMasked);
    Pulse(line);
  }
  EXPECT_EQ(Take(), -1);
  EXPECT_EQ(Read(0x40), 0u) << "beyond the last entry";
  Write(0, 0xffffffff);
  EXPECT_EQ(Read(0), 0x0f000000u);
}

TEST_F(IoApicTest, EdgeInterruptsOnceWhenItRises) {
  SetEntry(14, 0x77);
  Pulse(14);
  EXPECT_EQ(Take(), 0x77);
  End();
  io_.SetLine(14, Signal::kHigh);
  EXPECT_EQ(Take(), 0x77);
  End();
  io_.SetLine(14, Signal::kHigh);
  EXPECT_EQ(Take(), -1);
  EXPECT_EQ(ReadLine(14), 0x77u) << "no remote IRR";
}

TEST_F(IoApicTest, EdgeOnAMaskedLineIsLost) {
  SetEntry(14, 0x77 | kMasked);
  Pulse(14);
  SetEntry(14, 0x77);
  EXPECT_EQ(Take(), -1);
}

TEST_F(IoApicTest, LevelInterruptsUntilItFalls) {
  SetEntry(14, 0x82 | kLevel);
  io_.SetLine(14, Signal::kHigh);
  EXPECT_EQ(Take(), 0x82);
  EXPECT_EQ(ReadLine(14), 0x82 | kLevel | kRemoteIrr);
  EXPECT_EQ(cpu_.Read(0x180 + 0x10 * (0x82 / 32), 4), 1u << (0x82 % 32))
      << "the local APIC's trigger mode register";
  EXPECT_EQ(Take(), -1);
  End();
  EXPECT_EQ(Take(), 0x82) << "it is still high";
  io_.SetLine(14, Signal::kLow);
  End();
  EXPECT_EQ(Take(), -1);
  EXPECT_EQ(ReadLine(14), 0x82 | kLevel);
}

TEST_F(IoApicTest, LevelOnAMaskedLineWaits) {
  SetEntry(14, 0x82 | kLevel | kMasked);
  io_.SetLine(14, Signal::kHigh);
  EXPECT_EQ(Take(), -1);
  SetEntry(14, 0x82 | kLevel);
  EXPECT_EQ(Take(), 0x82);
}

TEST_F(IoApicTest, DestinationAndModeCount) {
  SetEntry(3, 0x60, 5);
  Pulse(3);
  EXPECT_EQ(Take(), -1) << "for another CPU";
  SetEntry(3, 0x60, 0xff);
  Pulse(3);
  EXPECT_EQ(Take(), 0x60);
  SetEntry(3, 0x400);
  Pulse(3);
  EXPECT_TRUE(cpu_.TakeNmi());
  SetEntry(3, 0x700);  // ExtINT
  Pulse(3);
  EXPECT_FALSE(cpu_.TakeNmi());
}

}  // namespace
}  // namespace hypervisor::testing
