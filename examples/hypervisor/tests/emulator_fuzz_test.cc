// Whatever bytes a guest puts where it executes, and whatever its registers
// hold, the emulator ends, and keeps its promises.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "emulate/control.h"
#include "emulate/emulator.h"
#include "gtest/gtest.h"
#include "tests/fake_bus.h"
#include "tests/instruction_builder.h"

namespace hypervisor {
namespace {

using Kind = EmulateOutcome::Kind;

constexpr uint64_t kBase = 0x100000;
constexpr unsigned kRounds = 60000;

// Opcodes and prefixes are likelier than they would be.
uint8_t RandomByte(Random& random) {
  constexpr uint8_t kLikely[] = {0xf0, 0xf2, 0xf3, 0x66, 0x67, 0x0f, 0x48,
                                 0x89, 0x8b, 0xc7, 0xab, 0xa5, 0xff, 0x01};
  return random.OneIn(4) ? kLikely[random.Below(std::size(kLikely))]
                         : static_cast<uint8_t>(random.Next() >> 24);
}

// A state that a guest may bring about, however odd.
CpuState RandomState(CpuMode mode, Random& random) {
  CpuState cpu;
  for (uint64_t& gpr : cpu.gpr) {
    gpr = random.OneIn(2) ? kBase + random.Below(0x4000) : random.Value();
    if (mode != CpuMode::k64Bit) gpr &= 0xffffffff;
  }
  cpu.rflags = (random.Next() & 0x3c4dd5) | rflags::kFixed;
  cpu.cr0 = cr0::kEt | (random.OneIn(3) ? 0 : cr0::kPe);
  cpu.cr4 = random.OneIn(2) ? cr4::kOsfxsr : 0;
  cpu.cpl = random.OneIn(2) ? 0 : 3;
  for (Segment* segment : {&cpu.es, &cpu.ss, &cpu.ds, &cpu.fs, &cpu.gs}) {
    *segment = {.attributes = static_cast<uint16_t>(
                    random.OneIn(3) ? random.Next() & 0xfff : 0xc93),
                .limit = static_cast<uint32_t>(random.OneIn(3) ? random.Value()
                                                               : 0xffffffff),
                .base = random.OneIn(2) ? 0 : kBase};
  }
  cpu.gdtr = {.limit = 0xff, .base = kBase + 0x1000};
  cpu.cs = {.attributes = 0x9b, .limit = 0xffffffff, .base = kBase};
  cpu.rip = random.Below(0x1000);
  if (mode == CpuMode::k32Bit) cpu.cs.attributes |= Segment::kDefault;
  if (mode == CpuMode::k64Bit) {
    cpu.efer = shadowmmu::efer::kLma | shadowmmu::efer::kLme;
    cpu.cr0 |= cr0::kPe | cr0::kPg;
    cpu.cs.attributes |= Segment::kLong;
    cpu.cs.base = 0;
    cpu.rip += kBase;
  }
  return cpu;
}

class EmulatorFuzz : public testing::TestWithParam<CpuMode> {};

TEST_P(EmulatorFuzz, RandomBytesEndInAnOutcome) {
  Random random(4242 + static_cast<unsigned>(GetParam()));
  Emulator emulator;
  FxsaveImage fx;
  FakeBus bus(kBase, 0x5000);
  bus.PageAt(kBase + 0x3000).writable = false;
  bus.PageAt(kBase + 0x4000).present = false;
  unsigned counts[5] = {};
  for (unsigned round = 0; round < kRounds; ++round) {
    CpuState cpu = RandomState(GetParam(), random);
    const uint64_t code = kBase + cpu.rip % 0x1000;
    for (unsigned i = 0; i < 15; ++i) {
      bus.SetWord(code + i, 1, RandomByte(random));
    }
    bus.log().clear();
    const CpuState before = cpu;
    const EmulateOutcome outcome = emulator.Execute(cpu, fx, bus);
    ++counts[static_cast<size_t>(outcome.kind)];
    ASSERT_LE(outcome.instruction.length, kMaxInstructionBytes);
    if (outcome.kind == Kind::kUnknown) {
      ASSERT_EQ(cpu, before);
      ASSERT_FALSE(emulator.Describe(outcome.instruction).empty());
    }
    if (outcome.kind == Kind::kDone) {
      ASSERT_EQ(cpu.rflags & rflags::kRf, 0u);
    }
    ASSERT_LE(bus.log().size(), 5000u);
    CpuState same = before;
    const ControlOutcome control = DecodeControl(emulator.decoder(), same, bus);
    ASSERT_EQ(same, before);
    ASSERT_LE(control.access.length, kMaxInstructionBytes);
  }
  // Neither all known nor all unknown: the bytes reached the emulator.
  EXPECT_GT(counts[static_cast<size_t>(Kind::kDone)], kRounds / 20);
  EXPECT_GT(counts[static_cast<size_t>(Kind::kException)], kRounds / 20);
  EXPECT_GT(counts[static_cast<size_t>(Kind::kUnknown)], kRounds / 20);
}

INSTANTIATE_TEST_SUITE_P(, EmulatorFuzz,
                         testing::Values(CpuMode::k16Bit, CpuMode::k32Bit,
                                         CpuMode::k64Bit));

}  // namespace
}  // namespace hypervisor
