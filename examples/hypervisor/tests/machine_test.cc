// The board: the small devices, what is wired to what, and what is absent.

#include "devices/machine.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tests/fake_board.h"

namespace hypervisor::testing {
namespace {

using shadowmmu::Gpa;

class MachineTest : public ::testing::Test {
 protected:
  Machine::Config MakeConfig() {
    return {.memory_bytes = uint64_t{256} << 20,
            .start_time = 0,
            .command_line = "quiet",
            .serial = [this](char byte) { serial_.push_back(byte); },
            .exit = [this](uint32_t code) { exits_.push_back(code); },
            .reset = [this] { ++resets_; }};
  }
  uint32_t In(uint16_t port, unsigned bytes = 1) {
    return machine_.ports().In(port, bytes);
  }
  void Out(uint16_t port, uint32_t value, unsigned bytes = 1) {
    machine_.ports().Out(port, bytes, value);
  }
  void Print(uint16_t port, const std::string& text) {
    for (const char byte : text) Out(port, static_cast<uint8_t>(byte));
  }
  int Take() {
    machine_.Advance();
    return machine_.InterruptPending() ? machine_.AcknowledgeInterrupt() : -1;
  }
  std::string FwCfg(uint16_t key, unsigned bytes) {
    Out(0x510, key, 2);
    std::string value;
    while (bytes-- > 0) value.push_back(static_cast<char>(In(0x511)));
    return value;
  }

  std::string serial_;
  std::vector<uint32_t> exits_;
  unsigned resets_ = 0;
  FakeClock clock_;
  Machine machine_{clock_, MakeConfig()};
};

TEST_F(MachineTest, SerialPortAndDebugConsolesPrint) {
  Print(0x3f8, "a");
  Print(0xe9, "b");
  Print(0x402, "c");
  EXPECT_EQ(serial_, "abc");
  EXPECT_EQ(In(0xe9), 0xe9u);
}

TEST_F(MachineTest, WhatIsNotThereReadsAllOnes) {
  static constexpr uint16_t kOtherSerialPorts[] = {0x2f8, 0x3e8, 0x2e8};
  for (const uint16_t com : kOtherSerialPorts) EXPECT_EQ(In(com), 0xffu);
  Out(0xcf8, 0x80000000, 4);
  EXPECT_EQ(In(0xcf8, 4), 0xffffffffu);
  EXPECT_EQ(In(0xcfc, 4), 0xffffffffu);
  Out(0x80, 1);
  Out(0xed, 1);
  EXPECT_EQ(machine_.mmio().Read(Gpa(0xfed00000), 4), 0xffffffffu);
}

TEST_F(MachineTest, ExitPortTellsTheCode) {
  Out(0xf4, 0x10, 4);
  Out(0xf4, 0);
  EXPECT_EQ(exits_, (std::vector<uint32_t>{0x10, 0}));
}

TEST_F(MachineTest, EveryWayToResetIsOneReset) {
  Out(0x64, 0xfe);
  EXPECT_EQ(resets_, 1u);
  Out(0xcf9, 0x02);
  Out(0xcf9, 0x06);
  EXPECT_EQ(resets_, 2u);
  Out(0x92, 0x03);
  EXPECT_EQ(resets_, 3u);
  Out(0x64, 0xd1);
  Out(0x60, 0x02);
  EXPECT_EQ(resets_, 4u);
}

TEST_F(MachineTest, NothingElseResets) {
  // A PCI configuration address has bits where port 0xcf9 has its reset.
  Out(0xcf8, 0x8000ffff, 4);
  Out(0xcf9, 0xffff, 2);
  Out(0x64, 0xff);
  Out(0x92, In(0x92) | 0x02);
  Out(0x64, 0xd1);
  Out(0x60, 0xdf);
  EXPECT_EQ(resets_, 0u);
}

TEST_F(MachineTest, KeyboardControllerAnswersAtOnce) {
  EXPECT_EQ(In(0x64) & 0x03, 0u) << "nothing to read, and ready";
  Out(0x64, 0xaa);
  EXPECT_EQ(In(0x64) & 0x01, 1u);
  EXPECT_EQ(In(0x60), 0x55u);
  EXPECT_EQ(In(0x64) & 0x01, 0u);
  Out(0x64, 0x60);
  Out(0x60, 0x47);
  Out(0x64, 0x20);
  EXPECT_EQ(In(0x60), 0x47u);
  Out(0x64, 0xd3);
  Out(0x60, 0x5a);
  EXPECT_EQ(In(0x64) & 0x21, 0x01u) << "not from a mouse port";
  Out(0x64, 0xa9);  // without reading it: the next answer takes its place
  EXPECT_EQ(In(0x60), 0x01u);
  EXPECT_EQ(In(0x64) & 0x01, 0u);
}

TEST_F(MachineTest, KeyboardThatIsNotThereTimesOutByInterrupt) {
  Out(0x21, 0xfd);
  Out(0x64, 0x60);
  Out(0x60, 0x45);
  Out(0x60, 0xf2);
  EXPECT_EQ(Take(), 0x09);
  EXPECT_EQ(In(0x64) & 0x41, 0x41u);
  EXPECT_EQ(In(0x60), 0xfeu);
  EXPECT_EQ(In(0x64) & 0x01, 0u);
}

TEST_F(MachineTest, FwCfgSaysWhatTheMachineHas) {
  EXPECT_EQ(FwCfg(0x00, 4), "QEMU");
  EXPECT_EQ(FwCfg(0x01, 4), std::string("\1\0\0\0", 4));
  EXPECT_EQ(FwCfg(0x03, 8), std::string("\0\0\0\x10\0\0\0\0", 8));
  EXPECT_EQ(FwCfg(0x05, 2), std::string("\1\0", 2));
  EXPECT_EQ(FwCfg(0x11, 8), std::string(8, '\0'));
  EXPECT_EQ(FwCfg(0x14, 4), std::string("\6\0\0\0", 4));
  EXPECT_EQ(FwCfg(0x15, 7), std::string("quiet\0\0", 7));
  EXPECT_EQ(FwCfg(0x19, 4), std::string(4, '\0'));
  EXPECT_EQ(FwCfg(0x4321, 2), std::string(2, '\0'));
}

TEST_F(MachineTest, TestDevicePortReadsBackInEverySize) {
  Out(0xe0, 0x12345678, 4);
  EXPECT_EQ(In(0xe0, 4), 0x12345678u);
  EXPECT_EQ(In(0xe0, 2), 0x5678u);
  EXPECT_EQ(In(0xe2), 0x34u);
  Out(0xe1, 0xab);
  EXPECT_EQ(In(0xe0, 4), 0x1234ab78u);
  Out(0xe3, 0x9988, 2);
  EXPECT_EQ(In(0xe3, 2), 0xff88u);
}

TEST_F(MachineTest, LinesAreTheIoApicsToo) {
  const auto write = [this](uint64_t offset, uint32_t value) {
    machine_.mmio().Write(Gpa(0xfec00000 + offset), 4, value);
  };
  machine_.mmio().Write(Gpa(0xfee000f0), 4, 0x1ff);
  Out(0x21, 0xff);
  Out(0xa1, 0xff);
  write(0, 0x10 + 2 * 20);
  write(0x10, 0x91);
  Out(0x2000 + 20, 1);
  EXPECT_EQ(Take(), 0x91);
  machine_.mmio().Write(Gpa(0xfee000b0), 4, 0);
  write(0, 0x10 + 2 * 2);
  write(0x10, 0x92);
  Out(0x2000, 0);
  Out(0x2000, 1);
  EXPECT_EQ(Take(), 0x92) << "the timer's line is number 2 there";
}

TEST_F(MachineTest, LocalApicMovesToWhereTheGuestWantsIt) {
  const uint64_t version = machine_.mmio().Read(Gpa(0xfee00030), 4);
  machine_.MoveLocalApic(Gpa(0xfed40000));
  EXPECT_EQ(machine_.mmio().Read(Gpa(0xfed40030), 4), version);
  EXPECT_EQ(machine_.mmio().Read(Gpa(0xfee00030), 4), 0xffffffffu);
  // Over another device it is not seen.
  machine_.MoveLocalApic(Gpa(0xff000000));
  EXPECT_EQ(machine_.mmio().Read(Gpa(0xff000030), 4), 0u);
  machine_.MoveLocalApic(Gpa(0xfee00000));
  EXPECT_EQ(machine_.mmio().Read(Gpa(0xfee00030), 4), version);
}

TEST_F(MachineTest, TestDeviceMemoryReadsBack) {
  const Gpa last(0xff00fff8);
  machine_.mmio().Write(last, 8, 0x1122334455667788);
  EXPECT_EQ(machine_.mmio().Read(last, 8), 0x1122334455667788u);
  EXPECT_EQ(machine_.mmio().Read(last + 4, 1), 0x44u);
  EXPECT_EQ(machine_.mmio().Read(last + 8, 1), 0xffu);
}

TEST_F(MachineTest, TestDevicePulseIsDeliveredOnFirmwaresVector) {
  Out(0x200b, 1, 4);
  Out(0x200b, 0, 4);
  EXPECT_EQ(Take(), 0x73);
  EXPECT_EQ(Take(), -1);
  Out(0x2017, 1);  // a line that has no controller
  EXPECT_EQ(Take(), -1);
}

TEST_F(MachineTest, TimerIsMaskedUntilTheGuestWantsIt) {
  clock_.Pass(kNanosecondsPerSecond);
  EXPECT_EQ(Take(), -1);
  Out(0x21, 0xfe);
  EXPECT_EQ(Take(), 0x08);
  Out(0x20, 0x20);
  EXPECT_EQ(Take(), -1);
  clock_.Set(machine_.NextEvent().value());
  EXPECT_EQ(Take(), 0x08);
}

TEST_F(MachineTest, FirmwaresTimerRunsAt18Point2Hertz) {
  const uint64_t first = machine_.NextEvent().value();
  clock_.Set(first);
  machine_.Advance();
  EXPECT_NEAR(static_cast<double>(machine_.NextEvent().value() - first),
              54'925'415.0, 1000.0);
}

TEST_F(MachineTest, SerialInterruptsOnIrq4) {
  Out(0x21, 0xef);
  Out(0x3fc, 0x08);
  Out(0x3f9, 0x02);
  EXPECT_EQ(Take(), 0x0c);
  EXPECT_EQ(In(0x3fa), 0x02u);
  Out(0x20, 0x20);
  Out(0x3f9, 0x01);
  machine_.ReceiveSerial('k');
  EXPECT_EQ(Take(), 0x0c);
  EXPECT_EQ(In(0x3f8), static_cast<uint32_t>('k'));
}

TEST_F(MachineTest, LocalApicCanCloseTheWayOfThePic) {
  Out(0x21, 0xef);
  Out(0x2004, 1);
  machine_.mmio().Write(Gpa(0xfee000f0), 4, 0x1ff);
  EXPECT_EQ(Take(), -1) << "enabled, LINT0 masked";
  machine_.mmio().Write(Gpa(0xfee00350), 4, 0x700);
  EXPECT_EQ(Take(), 0x0c);
}

TEST_F(MachineTest, PicAndLocalApicBothDeliver) {
  machine_.mmio().Write(Gpa(0xfee000f0), 4, 0x1ff);
  machine_.mmio().Write(Gpa(0xfee00350), 4, 0x700);
  machine_.mmio().Write(Gpa(0xfee00300), 4, 1u << 18 | 0x90);
  Out(0x2009, 1);
  EXPECT_EQ(Take(), 0x71);
  EXPECT_EQ(Take(), 0x90);
  EXPECT_EQ(Take(), -1);
}

TEST_F(MachineTest, SpuriousAcknowledgeDoesNotAbort) {
  EXPECT_EQ(machine_.AcknowledgeInterrupt(), 0x0f);
}

TEST(MachineWithoutSinksTest, OutputsGoNowhere) {
  FakeClock clock;
  Machine machine(clock, {});
  machine.ports().Out(0x3f8, 1, 'x');
  machine.ports().Out(0xf4, 1, 1);
  machine.ports().Out(0x64, 1, 0xfe);
  EXPECT_FALSE(machine.InterruptPending());
}

TEST_F(MachineTest, WhateverTheGuestWritesIsSurvived) {
  uint32_t random = 7;
  for (int i = 0; i < 300'000; ++i) {
    random = random * 1664525 + 1013904223;
    const auto port = static_cast<uint16_t>(random >> 8 & 0x7ff);
    const unsigned bytes = 1u << (random >> 20) % 3;
    if ((random >> 30) == 0) {
      In(port, bytes);
    } else {
      Out(port, random * 2654435761u, bytes);
    }
    machine_.mmio().Write(Gpa(0xfee00000 + (random >> 4 & 0xff0)), 4, random);
    machine_.mmio().Read(Gpa(0xfee00000 + (random >> 6 & 0xfff)), 1);
    clock_.Pass(random >> 18);
    Take();
  }
}

}  // namespace
}  // namespace hypervisor::testing
