// String and stack instructions of the emulator, and what goes beyond segments
// and pages, against the CPU that the test runs on.

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "emulate/cpu_state.h"
#include "gtest/gtest.h"
#include "tests/instruction_builder.h"
#include "tests/native_comparison.h"

namespace hypervisor {
namespace {

constexpr unsigned kTrials = 100;

class EmulatorNativeStack : public NativeComparison {
 protected:
  unsigned default_bytes() const {
    return wide() ? 8 : mode() == CpuMode::k32Bit ? 4 : 2;
  }
  uint64_t landing() { return native().AddressOf(mode(), NativeCpu::kLanding); }
  uint64_t StackOffset(const Trial& trial) {
    return trial.cpu.gpr[kRsp] - native().AddressOf(mode(), 0);
  }
  // Prefixes for an operand of `bytes`, where the default is `normal`.
  void OperandSize(Trial& trial, unsigned bytes, unsigned normal) {
    if (bytes != normal) trial.code.push_back(0x66);
  }
};

// One string instruction with random registers, its count small or beyond what
// one call of the emulator does.
class StringTrialMaker {
 public:
  StringTrialMaker(CpuMode mode, Random& random, NativeCpu& native)
      : mode_(mode), random_(random), native_(native) {}

  void Make(uint8_t opcode, CpuState& cpu, std::vector<uint8_t>& code) {
    const uint64_t all = ~uint64_t{0};
    uint64_t mask = mode_ == CpuMode::k64Bit   ? all
                    : mode_ == CpuMode::k32Bit ? 0xffffffff
                                               : 0xffff;
    constexpr uint8_t kRepeats[] = {0, 0xf2, 0xf3};
    const uint8_t repeat = kRepeats[random_.Below(3)];
    if (repeat != 0) code.push_back(repeat);
    if (random_.OneIn(4)) code.push_back(0x66);
    if (random_.OneIn(6)) {
      code.push_back(0x67);
      mask = mode_ == CpuMode::k32Bit ? 0xffff : 0xffffffff;
    }
    for (size_t i = code.size(); i > 1; --i) {
      std::swap(code[i - 1], code[random_.Below(i)]);
    }
    if (mode_ == CpuMode::k64Bit && random_.OneIn(4)) code.push_back(0x48);
    code.push_back(opcode);
    SetMasked(cpu, kRsi, RandomPlace(), mask);
    SetMasked(cpu, kRdi, RandomPlace(), mask);
    // Of a count of zero some CPUs clear what is above it, others do not.
    const uint64_t least = mask == all || mode_ != CpuMode::k64Bit ? 0 : 1;
    const uint64_t count = random_.Below(random_.OneIn(4) ? 200 : 12);
    SetMasked(cpu, kRcx, std::max(count, least), mask);
  }

 private:
  uint64_t RandomPlace() {
    const uint64_t middle = NativeCpu::kData + NativeCpu::kDataBytes / 2;
    return native_.AddressOf(mode_, middle + random_.Below(1024) - 512);
  }
  void SetMasked(CpuState& cpu, Gpr reg, uint64_t value, uint64_t mask) {
    const uint64_t keep = mode_ == CpuMode::k64Bit ? ~mask : ~mask & 0xffffffff;
    cpu.gpr[reg] = (cpu.gpr[reg] & keep) | (value & mask);
  }

  const CpuMode mode_;
  Random& random_;
  NativeCpu& native_;
};

TEST_P(EmulatorNativeStack, StringsWithAndWithoutRepeat) {
  constexpr uint8_t kOpcodes[] = {0xa4, 0xa5, 0xa6, 0xa7, 0xaa,
                                  0xab, 0xac, 0xad, 0xae, 0xaf};
  for (uint8_t opcode : kOpcodes) {
    for (unsigned i = 0; i < kTrials && !HasFailure(); ++i) {
      Trial trial = RandomTrial();
      StringTrialMaker(mode(), random(), native())
          .Make(opcode, trial.cpu, trial.code);
      Compare(trial);
    }
  }
  EXPECT_EQ(trapped(), 0u);
}

// With memory all alike, REPE goes on to the end; and all but one word.
TEST_P(EmulatorNativeStack, ComparesEndWhereStringsDiffer) {
  constexpr uint8_t kOpcodes[] = {0xa6, 0xa7, 0xae, 0xaf};
  for (uint8_t opcode : kOpcodes) {
    for (unsigned i = 0; i < kTrials && !HasFailure(); ++i) {
      Trial trial = RandomTrial();
      const uint64_t word = random().OneIn(2) ? 0 : ~uint64_t{0};
      for (uint64_t at = 0; at < NativeCpu::kDataBytes; at += 8) {
        Poke(NativeCpu::kData + at, 8, word);
      }
      Poke(NativeCpu::kData + 2048 + 8 * random().Below(512), 8, 0x55);
      trial.cpu.gpr[kRax] = wide() ? word : word & 0xffffffff;
      StringTrialMaker(mode(), random(), native())
          .Make(opcode, trial.cpu, trial.code);
      Compare(trial);
    }
  }
}

TEST_P(EmulatorNativeStack, PushesAndPopsOfMemory) {
  for (const auto& [opcode, digit] :
       {std::pair<uint8_t, int>{0xff, 6}, std::pair<uint8_t, int>{0x8f, 0}}) {
    for (unsigned i = 0; i < 2 * kTrials && !HasFailure(); ++i) {
      Trial trial = RandomTrial();
      Encoding encoding = {.opcode = {opcode}, .digit = digit};
      // In 64-bit code no prefix is 8 bytes.
      encoding.operand_bytes = random().OneIn(3) ? 2 : 4;
      InstructionBuilder builder(mode(), random(), native());
      const uint64_t stack = trial.cpu.gpr[kRsp];
      trial.code =
          builder.Build(encoding, RmKind::kMemory, RandomTarget(), trial.cpu);
      // rSP as a base is where the stack is.
      if (builder.AddressUses(kRsp)) continue;
      trial.cpu.gpr[kRsp] = stack;
      Compare(trial);
    }
  }
}

TEST_P(EmulatorNativeStack, StackPointerAsABase) {
  if (mode() == CpuMode::k16Bit) GTEST_SKIP() << "no such address";
  for (const std::vector<uint8_t>& code :
       std::vector<std::vector<uint8_t>>{{0xff, 0x74, 0x24, 0x08},
                                         {0x8f, 0x44, 0x24, 0x08},
                                         {0x54},
                                         {0x5c}}) {
    Trial trial = RandomTrial();
    trial.code = code;
    Compare(trial);
  }
}

TEST_P(EmulatorNativeStack, PushesOfRegistersAndImmediates) {
  for (unsigned i = 0; i < 4 * kTrials && !HasFailure(); ++i) {
    Trial trial = RandomTrial();
    const bool narrow = random().OneIn(3);
    if (narrow) trial.code.push_back(0x66);
    const bool is_16 = narrow != (mode() == CpuMode::k16Bit);
    const unsigned kind = static_cast<unsigned>(random().Below(5));
    switch (kind) {
      case 0:
        if (wide() && random().OneIn(2)) trial.code.push_back(0x41);
        trial.code.push_back(static_cast<uint8_t>(0x50 + random().Below(8)));
        break;
      case 1:
        trial.code.insert(trial.code.end(),
                          {0x6a, static_cast<uint8_t>(random().Value())});
        break;
      case 2:
        trial.code.push_back(0x68);
        for (unsigned j = 0; j < (is_16 ? 2u : 4u); ++j) {
          trial.code.push_back(static_cast<uint8_t>(random().Value()));
        }
        break;
      case 3:
        if (wide() && random().OneIn(2)) trial.code.push_back(0x41);
        trial.code.push_back(static_cast<uint8_t>(0x58 + random().Below(8)));
        break;
      default:
        trial.code.push_back(0x9c);  // PUSHF
        break;
    }
    Compare(trial);
  }
}

TEST_P(EmulatorNativeStack, PushesAllRegisters) {
  if (wide()) GTEST_SKIP() << "no such instruction";
  for (unsigned i = 0; i < kTrials && !HasFailure(); ++i) {
    Trial trial = RandomTrial();
    if (random().OneIn(2)) trial.code.push_back(0x66);
    trial.code.push_back(0x60);
    Compare(trial);
  }
}

TEST_P(EmulatorNativeStack, CallsAndReturns) {
  for (unsigned i = 0; i < kTrials && !HasFailure(); ++i) {
    Trial call = RandomTrial();
    const unsigned bytes = mode() == CpuMode::k16Bit ? 2 : 4;
    const WordBytes distance = ToBytes(NativeCpu::kLanding - 1 - bytes);
    call.code.push_back(0xe8);
    for (unsigned j = 0; j < bytes; ++j) {
      call.code.push_back(std::to_integer<uint8_t>(distance[j]));
    }
    Compare(call);

    for (const std::vector<uint8_t>& code :
         std::vector<std::vector<uint8_t>>{{0xc3}, {0xc2, 0x18, 0x00}}) {
      Trial ret = RandomTrial();
      ret.code = code;
      Poke(StackOffset(ret), default_bytes(), landing());
      Compare(ret);
    }
  }
}

TEST_P(EmulatorNativeStack, CallsAndJumpsThroughMemory) {
  for (int digit : {2, 4}) {
    for (unsigned i = 0; i < kTrials && !HasFailure(); ++i) {
      Trial trial = RandomTrial();
      Encoding encoding = {.opcode = {0xff}, .digit = digit};
      encoding.operand_bytes = mode() == CpuMode::k16Bit ? 2 : 4;
      InstructionBuilder builder(mode(), random(), native());
      const uint64_t stack = trial.cpu.gpr[kRsp];
      const uint64_t target = RandomTarget();
      trial.code = builder.Build(encoding, RmKind::kMemory, target, trial.cpu);
      if (builder.AddressUses(kRsp)) continue;
      trial.cpu.gpr[kRsp] = stack;
      Poke(target, default_bytes(), landing());
      Compare(trial);
    }
  }
}

// Beyond the limit of a segment: #GP, of the stack segment #SS. In 64-bit code:
// addresses that are not canonical.
TEST_P(EmulatorNativeStack, WhatIsBeyondItsSegment) {
  for (unsigned i = 0; i < kTrials && !HasFailure(); ++i) {
    Trial trial = RandomTrial();
    const bool stack = random().OneIn(2);
    const bool is_16 = mode() == CpuMode::k16Bit;
    const unsigned base = stack ? kRbp : kRbx;
    trial.cpu.gpr[base] = wide() ? 0x7ffffffffffd + random().Below(8)
                                 : 0xfffd + random().Below(2);
    // MOV EAX, [base]; MOV [base], EAX; ADD [base], EAX
    constexpr uint8_t kOpcodes[] = {0x8b, 0x89, 0x01};
    if (is_16) trial.code.push_back(0x66);
    trial.code.push_back(kOpcodes[random().Below(3)]);
    const unsigned rm = is_16 ? (stack ? 6 : 7) : (stack ? 5 : 3);
    trial.code.push_back(static_cast<uint8_t>(0x40 | rm));
    trial.code.push_back(0);
    // Whole accesses in the last bytes of user memory are page faults.
    if (wide() && trial.cpu.gpr[base] + 3 < 0x800000000000) continue;
    Compare(trial);
  }
  EXPECT_EQ(trapped(), compared());
}

// Page faults: those of a store that reaches into a page, and how far a
// repeated one has come by then.
TEST_P(EmulatorNativeStack, StoresIntoAReadOnlyPage) {
  constexpr uint64_t kReadOnly = NativeCpu::kData + shadowmmu::kPageSize;
  SetReadOnly(kReadOnly);
  // MOV, ADD, CMP (which only reads), XCHG, POP of memory
  const std::vector<std::pair<uint8_t, int>> opcodes = {
      {0x89, -1}, {0x01, -1}, {0x39, -1}, {0x87, -1}, {0x8f, 0}};
  for (unsigned i = 0; i < 4 * kTrials && !HasFailure(); ++i) {
    Trial trial = RandomTrial();
    const auto& [opcode, digit] = opcodes[random().Below(opcodes.size())];
    Encoding encoding = {.opcode = {opcode}, .digit = digit};
    encoding.operand_bytes = random().OneIn(3) ? 2 : 4;
    InstructionBuilder builder(mode(), random(), native());
    const uint64_t stack = trial.cpu.gpr[kRsp];
    trial.code = builder.Build(encoding, RmKind::kMemory,
                               kReadOnly - 6 + random().Below(12), trial.cpu);
    if (builder.AddressUses(kRsp)) continue;
    trial.cpu.gpr[kRsp] = stack;
    Compare(trial);
  }
  EXPECT_GT(trapped(), 50u);
  EXPECT_LT(trapped(), compared());
}

TEST_P(EmulatorNativeStack, RepeatedStoresStopAtAReadOnlyPage) {
  constexpr uint64_t kReadOnly = NativeCpu::kData + shadowmmu::kPageSize;
  SetReadOnly(kReadOnly);
  constexpr uint8_t kOpcodes[] = {0xa4, 0xa5, 0xaa, 0xab};
  for (unsigned i = 0; i < 2 * kTrials && !HasFailure(); ++i) {
    Trial trial = RandomTrial();
    trial.code = {0xf3, kOpcodes[random().Below(4)]};
    trial.cpu.gpr[kRdi] =
        native().AddressOf(mode(), kReadOnly - 64 + random().Below(80));
    trial.cpu.gpr[kRsi] = native().AddressOf(mode(), RandomTarget(1024));
    trial.cpu.gpr[kRcx] = random().Below(40);
    Compare(trial);
  }
  EXPECT_GT(trapped(), 50u);
  EXPECT_LT(trapped(), compared());
}

// A push from the bottom of a segment wraps around to its top; one that would
// lie at both ends is #SS.
TEST_P(EmulatorNativeStack, PushesThatWrapAround) {
  if (mode() != CpuMode::k16Bit) GTEST_SKIP() << "a 16-bit stack pointer";
  for (uint64_t top : {0x0000u, 0x8001u, 0x0001u}) {
    Trial trial = RandomTrial();
    trial.cpu.gpr[kRsp] = 0xabcd0000 | top;
    trial.code = {0x50};
    Compare(trial);
  }
  EXPECT_EQ(trapped(), 1u);
}

INSTANTIATE_TEST_SUITE_P(, EmulatorNativeStack,
                         testing::Values(CpuMode::k16Bit, CpuMode::k32Bit,
                                         CpuMode::k64Bit),
                         ModeName);

}  // namespace
}  // namespace hypervisor
