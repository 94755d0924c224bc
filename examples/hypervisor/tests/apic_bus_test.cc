// ApicBus: which CPU gets what another one, or itself, sends; how a CPU is
// started; and what a board of two CPUs shares.

#include "devices/apic_bus.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "devices/local_apic.h"
#include "devices/machine.h"
#include "tests/fake_board.h"

namespace hypervisor::testing {
namespace {

constexpr uint64_t kId = 0x20;
constexpr uint64_t kTaskPriority = 0x80;
constexpr uint64_t kLogicalDestination = 0xd0;
constexpr uint64_t kSpurious = 0xf0;
constexpr uint64_t kCommandLow = 0x300;
constexpr uint64_t kCommandHigh = 0x310;

constexpr uint32_t kLowestPriority = 1u << 8;
constexpr uint32_t kNmi = 4u << 8;
constexpr uint32_t kInit = 5u << 8;
constexpr uint32_t kStartup = 6u << 8;
constexpr uint32_t kLogical = 1u << 11;
constexpr uint32_t kAssert = 1u << 14;
constexpr uint32_t kSelf = 1u << 18;
constexpr uint32_t kAll = 2u << 18;
constexpr uint32_t kAllButSelf = 3u << 18;

class ApicBusTest : public ::testing::Test {
 protected:
  ApicBusTest() {
    for (LocalApic& apic : cpus_) {
      apic.ConnectTo(bus_);
      bus_.Attach(apic);
      apic.Write(kSpurious, 4, 0x1ff);
      apic.TakeAttention();
    }
  }
  void Send(unsigned from, uint32_t low, uint8_t destination = 0) {
    cpus_[from].Write(kCommandHigh, 4, uint32_t{destination} << 24);
    cpus_[from].Write(kCommandLow, 4, low);
  }
  // Who has an interrupt, as digits; it is taken, and has ended.
  std::string Reached() {
    std::string who;
    for (unsigned i = 0; i < cpus_.size(); ++i) {
      EXPECT_EQ(cpus_[i].TakeAttention(), cpus_[i].Pending());
      if (!cpus_[i].Pending()) continue;
      who += static_cast<char>('0' + i);
      EXPECT_EQ(cpus_[i].Acknowledge(), 0x61);
      cpus_[i].Write(0xb0, 4, 0);
    }
    return who;
  }

  FakeClock clock_;
  ApicBus bus_;
  std::array<LocalApic, 3> cpus_ = {
      LocalApic(clock_, 0), LocalApic(clock_, 1, LocalApic::Role::kIsStarted),
      LocalApic(clock_, 2, LocalApic::Role::kIsStarted)};
};

TEST_F(ApicBusTest, PhysicalDestinationNamesOneOrAll) {
  Send(0, 0x61, 1);
  EXPECT_EQ(Reached(), "1");
  Send(1, 0x61, 0);
  EXPECT_EQ(Reached(), "0");
  Send(2, 0x61, 2);
  EXPECT_EQ(Reached(), "2");
  Send(2, 0x61, 7);
  EXPECT_EQ(Reached(), "");
  Send(1, 0x61, 0xff);
  EXPECT_EQ(Reached(), "012");
}

TEST_F(ApicBusTest, ShorthandsNeedNoDestination) {
  Send(1, kSelf | 0x61, 2);
  EXPECT_EQ(Reached(), "1");
  Send(1, kAll | 0x61, 2);
  EXPECT_EQ(Reached(), "012");
  Send(1, kAllButSelf | 0x61, 1);
  EXPECT_EQ(Reached(), "02");
}

TEST_F(ApicBusTest, FlatLogicalDestinationIsASet) {
  for (unsigned i = 0; i < cpus_.size(); ++i) {
    cpus_[i].Write(kLogicalDestination, 4, 1u << (24 + i));
  }
  Send(0, kLogical | 0x61, 0b110);
  EXPECT_EQ(Reached(), "12");
  cpus_[1].Write(kTaskPriority, 4, 0x20);
  Send(0, kLogical | kLowestPriority | 0x61, 0b110);
  EXPECT_EQ(Reached(), "2") << "the one with the lowest priority";
  Send(0, kLogical | kLowestPriority | 0x61, 0b010);
  EXPECT_EQ(Reached(), "1");
}

TEST_F(ApicBusTest, NmiGoesWhereItIsSent) {
  Send(0, kAllButSelf | kNmi);
  EXPECT_FALSE(cpus_[0].TakeNmi());
  EXPECT_TRUE(cpus_[1].TakeAttention());
  EXPECT_TRUE(cpus_[1].TakeNmi());
  EXPECT_FALSE(cpus_[1].TakeNmi());
  EXPECT_TRUE(cpus_[2].TakeNmi());
}

TEST_F(ApicBusTest, StartupCountsOnceAfterInit) {
  Send(0, kStartup | 0x12, 1);
  EXPECT_EQ(cpus_[1].TakeStartup(), 0x12) << "it began as after INIT";
  Send(0, kStartup | 0x13, 1);
  EXPECT_EQ(cpus_[1].TakeStartup(), std::nullopt);
  cpus_[1].Write(kId, 4, 1u << 24);
  Send(0, kInit | kAssert, 1);
  EXPECT_TRUE(cpus_[1].TakeInit());
  EXPECT_FALSE(cpus_[1].TakeInit());
  EXPECT_EQ(cpus_[1].Read(kSpurious, 4), 0xffu) << "INIT resets the APIC";
  Send(0, kInit, 1);
  EXPECT_FALSE(cpus_[1].TakeInit()) << "the end of INIT is nothing";
  Send(0, kStartup | 0x14, 1);
  EXPECT_EQ(cpus_[1].TakeStartup(), 0x14);
}

TEST_F(ApicBusTest, InitMakesAnEarlierStartupVoid) {
  Send(0, kStartup | 0x12, 1);
  Send(0, kInit | kAssert, 1);
  EXPECT_TRUE(cpus_[1].InitOrStartupWaits());
  EXPECT_TRUE(cpus_[1].TakeInit());
  EXPECT_EQ(cpus_[1].TakeStartup(), std::nullopt);
}

TEST_F(ApicBusTest, TheCpuThatBootsWaitsForNoStartup) {
  Send(1, kInit | kAssert, 0);
  EXPECT_TRUE(cpus_[0].TakeInit());
  Send(1, kStartup | 0x12, 0);
  EXPECT_EQ(cpus_[0].TakeStartup(), std::nullopt);
}

class TwoCpusTest : public ::testing::Test {
 protected:
  static Machine::Config MakeConfig() {
    Machine::Config config;
    config.memory_bytes = 64 << 20;
    config.cpus = 2;
    return config;
  }

  FakeClock clock_;
  Machine machine_{clock_, MakeConfig()};
};

TEST_F(TwoCpusTest, EachSeesItsOwnLocalApic) {
  constexpr shadowmmu::Gpa kIdRegister(kLocalApicBase + kId);
  EXPECT_EQ(machine_.mmio(0).Read(kIdRegister, 4), 0u);
  EXPECT_EQ(machine_.mmio(1).Read(kIdRegister, 4), 1u << 24);
  machine_.MoveLocalApic(shadowmmu::Gpa(0xfed00000), 1);
  EXPECT_EQ(machine_.mmio(1).Read(shadowmmu::Gpa(0xfed00020), 4), 1u << 24);
  EXPECT_EQ(machine_.mmio(0).Read(kIdRegister, 4), 0u);
}

TEST_F(TwoCpusTest, FirmwareTellsThatThereAreTwo) {
  machine_.ports().Out(0x510, 2, 5);
  EXPECT_EQ(machine_.ports().In(0x511, 1), 2u);
}

TEST_F(TwoCpusTest, TheBootCpuHasThePicsInterrupts) {
  machine_.TakeAttention(0);
  machine_.ports().Out(0x21, 1, 0xfe);
  clock_.Pass(100'000'000);
  EXPECT_EQ(machine_.NextEvent(1), std::nullopt);
  machine_.Advance(1);
  EXPECT_FALSE(machine_.InterruptPending(1));
  EXPECT_TRUE(machine_.InterruptPending(0));
  EXPECT_TRUE(machine_.TakeAttention(0));
  EXPECT_FALSE(machine_.TakeAttention(0)) << "it has been told";
  EXPECT_FALSE(machine_.TakeAttention(1));
  EXPECT_EQ(machine_.AcknowledgeInterrupt(0), 8);
}

}  // namespace
}  // namespace hypervisor::testing
