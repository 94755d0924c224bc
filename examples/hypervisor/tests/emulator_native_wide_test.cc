// Products, quotients, bit scans, double shifts, frames and MMX moves of the
// emulator against the CPU that the test runs on.

#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "emulate/cpu_state.h"
#include "gtest/gtest.h"
#include "tests/instruction_builder.h"
#include "tests/native_comparison.h"

namespace hypervisor {
namespace {

constexpr unsigned kTrials = 80;
// What products and quotients leave undefined.
constexpr uint64_t kOfProduct =
    rflags::kSf | rflags::kZf | rflags::kAf | rflags::kPf;
constexpr uint64_t kOfScan = rflags::kStatus & ~rflags::kZf;

class EmulatorNativeWide : public NativeComparison {
 protected:
  unsigned RandomBytes() {
    constexpr unsigned kSizes[] = {2, 4, 8};
    return kSizes[random().Below(wide() ? 3 : 2)];
  }

  // `trials` of an instruction with memory, its operands random.
  void Try(Encoding encoding, uint64_t undefined, bool of_bytes = false) {
    for (unsigned i = 0; i < kTrials && !HasFailure(); ++i) {
      Trial trial = RandomTrial();
      encoding.operand_bytes = of_bytes ? 1 : RandomBytes();
      Encoding one = encoding;
      if (one.immediate_bytes == 4 && encoding.operand_bytes == 2) {
        one.immediate_bytes = 2;
      }
      InstructionBuilder builder(mode(), random(), native());
      trial.code =
          builder.Build(one, RmKind::kMemory, RandomTarget(), trial.cpu);
      trial.undefined_flags = undefined;
      Compare(trial);
    }
  }
};

TEST_P(EmulatorNativeWide, Products) {
  for (const int digit : {4, 5}) {
    Try({.opcode = {0xf6}, .digit = digit}, kOfProduct, true);
    Try({.opcode = {0xf7}, .digit = digit}, kOfProduct);
  }
  Try({.opcode = {0x0f, 0xaf}}, kOfProduct);
  Try({.opcode = {0x6b}, .immediate_bytes = 1}, kOfProduct);
  Try({.opcode = {0x69}, .immediate_bytes = 4}, kOfProduct);
  EXPECT_EQ(compared(), 7 * kTrials);
}

// Quotients that fit: the others would be a signal that is not caught.
TEST_P(EmulatorNativeWide, Quotients) {
  for (unsigned i = 0; i < 4 * kTrials && !HasFailure(); ++i) {
    Trial trial = RandomTrial();
    const bool sign = random().OneIn(2);
    const unsigned bytes = random().OneIn(4) ? 1 : RandomBytes();
    Encoding encoding = {
        .opcode = {static_cast<uint8_t>(bytes == 1 ? 0xf6 : 0xf7)},
        .digit = sign ? 7 : 6,
        .operand_bytes = bytes};
    InstructionBuilder builder(mode(), random(), native());
    const uint64_t target = RandomTarget();
    trial.code = builder.Build(encoding, RmKind::kMemory, target, trial.cpu);
    if (builder.AddressUses(kRax) || builder.AddressUses(kRdx)) continue;
    // The dividend is half as large as what always fits.
    const uint64_t most = Truncate(~uint64_t{0}, bytes) >> 2;
    const uint64_t divisor = (random().Next() & most) + 2;
    Poke(target, bytes, divisor);
    const uint64_t high =
        sign ? random().Next() % (divisor / 2) : random().Next() % divisor;
    uint64_t& low = trial.cpu.gpr[kRax];
    if (bytes == 1) {
      low = (low & ~uint64_t{0xff00}) | high << 8;
    } else {
      trial.cpu.gpr[kRdx] = high;
    }
    trial.undefined_flags = rflags::kStatus;
    Compare(trial);
  }
  EXPECT_GT(compared(), kTrials);
  EXPECT_EQ(trapped(), 0u);
}

TEST_P(EmulatorNativeWide, NegativeQuotients) {
  for (unsigned i = 0; i < kTrials && !HasFailure(); ++i) {
    Trial trial = RandomTrial();
    const unsigned bytes = RandomBytes();
    Encoding encoding = {.opcode = {0xf7}, .digit = 7, .operand_bytes = bytes};
    InstructionBuilder builder(mode(), random(), native());
    const uint64_t target = RandomTarget();
    trial.code = builder.Build(encoding, RmKind::kMemory, target, trial.cpu);
    if (builder.AddressUses(kRax) || builder.AddressUses(kRdx)) continue;
    Poke(target, bytes, random().Below(1000) + 2);
    const unsigned upper = wide() ? 8 : 4;
    trial.cpu.gpr[kRdx] = Truncate(~uint64_t{0}, upper);
    trial.cpu.gpr[kRax] |= uint64_t{1} << (8 * bytes - 1);
    trial.undefined_flags = rflags::kStatus;
    Compare(trial);
  }
}

TEST_P(EmulatorNativeWide, BitScans) {
  for (const uint8_t opcode : {uint8_t{0xbc}, uint8_t{0xbd}}) {
    for (unsigned i = 0; i < kTrials && !HasFailure(); ++i) {
      Trial trial = RandomTrial();
      Encoding encoding = {.opcode = {0x0f, opcode},
                           .operand_bytes = RandomBytes()};
      InstructionBuilder builder(mode(), random(), native());
      const uint64_t target = RandomTarget();
      trial.code = builder.Build(encoding, RmKind::kMemory, target, trial.cpu);
      // Few bits, at random; none leaves the destination as it is.
      const uint64_t bits = random().Next() & random().Next() & random().Next();
      Poke(target, 8, random().OneIn(5) ? 0 : bits);
      // What becomes of the upper half then is not told.
      trial.cpu.gpr[builder.reg()] &=
          builder.AddressUses(builder.reg()) ? ~uint64_t{0} : 0xffffffff;
      if (builder.AddressUses(builder.reg())) continue;
      trial.undefined_flags = kOfScan;
      Compare(trial);
    }
  }
}

TEST_P(EmulatorNativeWide, DoubleShifts) {
  for (const uint8_t opcode :
       {uint8_t{0xa4}, uint8_t{0xac}, uint8_t{0xa5}, uint8_t{0xad}}) {
    const bool by_register = (opcode & 1) != 0;
    for (unsigned i = 0; i < kTrials && !HasFailure(); ++i) {
      Trial trial = RandomTrial();
      const unsigned bytes = RandomBytes();
      Encoding encoding = {.opcode = {0x0f, opcode},
                           .operand_bytes = bytes,
                           .immediate_bytes = by_register ? 0u : 1u};
      InstructionBuilder builder(mode(), random(), native());
      trial.code =
          builder.Build(encoding, RmKind::kMemory, RandomTarget(), trial.cpu);
      if (builder.AddressUses(kRcx)) continue;
      // No more than a word has: all else is undefined.
      const uint8_t count = static_cast<uint8_t>(random().Below(17));
      if (by_register) {
        trial.cpu.gpr[kRcx] = (trial.cpu.gpr[kRcx] & ~uint64_t{0xff}) | count;
      } else {
        trial.code.back() = count;
      }
      trial.undefined_flags = rflags::kAf | rflags::kOf;
      if (count == 1) trial.undefined_flags = rflags::kAf;
      if (count == 0) trial.undefined_flags = 0;
      Compare(trial);
    }
  }
}

TEST_P(EmulatorNativeWide, Frames) {
  for (unsigned i = 0; i < kTrials && !HasFailure(); ++i) {
    Trial enter = RandomTrial();
    const uint64_t stack = enter.cpu.gpr[kRsp];
    enter.cpu.gpr[kRbp] = stack + 8 * random().Below(8);
    const bool other_size = random().OneIn(4);
    if (other_size) enter.code.push_back(0x66);
    const uint8_t level = static_cast<uint8_t>(random().Below(4));
    const uint8_t room = static_cast<uint8_t>(random().Next());
    enter.code.insert(enter.code.end(), {0xc8, room, 0x01, level});
    Compare(enter);

    Trial leave = RandomTrial();
    leave.cpu.gpr[kRbp] = leave.cpu.gpr[kRsp] + 8 * random().Below(8);
    if (other_size) leave.code.push_back(0x66);
    leave.code.push_back(0xc9);
    Compare(leave);
  }
}

TEST_P(EmulatorNativeWide, Translation) {
  for (unsigned i = 0; i < kTrials && !HasFailure(); ++i) {
    Trial trial = RandomTrial();
    trial.cpu.gpr[kRbx] = native().AddressOf(mode(), RandomTarget(512));
    trial.code.push_back(0xd7);
    Compare(trial);
  }
}

TEST_P(EmulatorNativeWide, MmxMoves) {
  for (const auto& [opcode, bytes] :
       std::vector<std::pair<uint8_t, unsigned>>{{0x6f, 4},
                                                 {0x7f, 4},
                                                 {0x6e, 4},
                                                 {0x7e, 4},
                                                 {0x6e, 8},
                                                 {0x7e, 8},
                                                 {0xe7, 4}}) {
    if (bytes == 8 && !wide()) continue;
    for (unsigned i = 0; i < kTrials && !HasFailure(); ++i) {
      Trial trial = RandomTrial();
      trial.fx.bytes[4] = std::byte{0xff};
      for (size_t at = 32; at < 160; at += 16) {
        const WordBytes word = ToBytes(random().Next());
        std::copy(word.begin(), word.end(), trial.fx.bytes.begin() + at);
        trial.fx.bytes[at + 8] = trial.fx.bytes[at + 9] = std::byte{0xff};
      }
      Encoding encoding = {.opcode = {0x0f, opcode}, .operand_bytes = bytes};
      if (bytes == 4 && mode() == CpuMode::k16Bit) encoding.operand_bytes = 2;
      InstructionBuilder builder(mode(), random(), native());
      trial.code =
          builder.Build(encoding, RmKind::kMemory, RandomTarget(), trial.cpu);
      Compare(trial);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, EmulatorNativeWide,
                         testing::Values(CpuMode::k16Bit, CpuMode::k32Bit,
                                         CpuMode::k64Bit),
                         ModeName);

}  // namespace
}  // namespace hypervisor
