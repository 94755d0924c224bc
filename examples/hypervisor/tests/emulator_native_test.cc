// Arithmetic, moves, bits and exchanges of the emulator against the CPU that
// the test runs on, in 16-, 32- and 64-bit code.

#include <cstdint>
#include <vector>

#include "emulate/cpu_state.h"
#include "gtest/gtest.h"
#include "tests/instruction_builder.h"
#include "tests/native_comparison.h"

namespace hypervisor {
namespace {

constexpr unsigned kTrials = 60;

// An instruction in the reference's order, with its forms.
struct Form {
  const char* name = "";
  std::vector<uint8_t> opcode = {};
  int digit = -1;
  bool bytes_only = false;  // operands of one byte
  // Bytes of the immediate; kOperand: as wide as the operand, at most 4.
  unsigned immediate = 0;
  bool lockable = false;
  bool memory_only = false;
  uint64_t undefined_flags = 0;
};
constexpr unsigned kOperand = 16;

constexpr uint64_t kLogic = rflags::kAf;
constexpr uint64_t kShift = rflags::kAf | rflags::kOf | rflags::kCf;
constexpr uint64_t kRotate = rflags::kOf;
constexpr uint64_t kBits =
    rflags::kOf | rflags::kSf | rflags::kAf | rflags::kPf;

class EmulatorNative : public NativeComparison {
 protected:
  unsigned RandomOperandBytes(const Form& form) {
    if (form.bytes_only) return 1;
    constexpr unsigned kSizes[] = {2, 4, 8};
    return kSizes[random().Below(wide() ? 3 : 2)];
  }

  Encoding EncodingOf(const Form& form, unsigned operand_bytes, RmKind kind) {
    Encoding encoding;
    encoding.opcode = form.opcode;
    encoding.digit = form.digit;
    encoding.operand_bytes = operand_bytes;
    encoding.immediate_bytes = form.immediate == kOperand
                                   ? std::min(operand_bytes, 4u)
                                   : form.immediate;
    encoding.lock =
        form.lockable && kind == RmKind::kMemory && random().OneIn(3);
    return encoding;
  }

  void Try(const Form& form) {
    SCOPED_TRACE(form.name);
    for (unsigned i = 0; i < kTrials && !HasFailure(); ++i) {
      Trial trial = RandomTrial();
      const RmKind kind = !form.memory_only && random().OneIn(4)
                              ? RmKind::kRegister
                              : RmKind::kMemory;
      InstructionBuilder builder(mode(), random(), native());
      trial.code =
          builder.Build(EncodingOf(form, RandomOperandBytes(form), kind), kind,
                        RandomTarget(), trial.cpu);
      trial.undefined_flags = form.undefined_flags;
      Compare(trial);
    }
  }
};

TEST_P(EmulatorNative, Arithmetic) {
  constexpr const char* kNames[] = {"add", "or",  "adc", "sbb",
                                    "and", "sub", "xor", "cmp"};
  for (unsigned i = 0; i < 8; ++i) {
    const bool logic = i == 1 || i == 4 || i == 6;
    const uint64_t undefined = logic ? kLogic : 0;
    const bool lockable = i != 7;
    const auto opcode = [i](unsigned low) {
      return std::vector<uint8_t>{static_cast<uint8_t>(8 * i + low)};
    };
    const int digit = static_cast<int>(i);
    for (const Form& form : {
             Form{kNames[i], opcode(0), -1, true, 0, lockable, false},
             Form{kNames[i], opcode(1), -1, false, 0, lockable, false},
             Form{kNames[i], opcode(2), -1, true},
             Form{kNames[i], opcode(3), -1, false},
             Form{kNames[i], {0x80}, digit, true, 1, lockable},
             Form{kNames[i], {0x81}, digit, false, kOperand, lockable},
             Form{kNames[i], {0x83}, digit, false, 1, lockable},
         }) {
      Form one = form;
      one.undefined_flags = undefined;
      Try(one);
    }
  }
  EXPECT_GT(compared(), 8 * 7 * kTrials - 1);
}

TEST_P(EmulatorNative, TestOfBits) {
  Try({"test", {0x84}, -1, true, 0, false, false, kLogic});
  Try({"test", {0x85}, -1, false, 0, false, false, kLogic});
  Try({"test", {0xf6}, 0, true, 1, false, false, kLogic});
  Try({"test", {0xf7}, 0, false, kOperand, false, false, kLogic});
}

TEST_P(EmulatorNative, OneOperand) {
  Try({"inc", {0xfe}, 0, true, 0, true});
  Try({"inc", {0xff}, 0, false, 0, true});
  Try({"dec", {0xfe}, 1, true, 0, true});
  Try({"dec", {0xff}, 1, false, 0, true});
  Try({"not", {0xf6}, 2, true, 0, true});
  Try({"not", {0xf7}, 2, false, 0, true});
  Try({"neg", {0xf6}, 3, true, 0, true});
  Try({"neg", {0xf7}, 3, false, 0, true});
}

// A shift by one leaves AF alone undefined, others OF too, and CF where they
// shift by more than there is.
TEST_P(EmulatorNative, ShiftsAndRotations) {
  constexpr const char* kNames[] = {"rol", "ror", "rcl", "rcr",
                                    "shl", "shr", "sal", "sar"};
  for (unsigned i = 0; i < 8; ++i) {
    if (i == 6) continue;  // an alias that no assembler writes
    const int digit = static_cast<int>(i);
    const uint64_t by_one = i < 4 ? 0 : rflags::kAf;
    const uint64_t by_more = i < 4 ? kRotate : kShift;
    Try({kNames[i], {0xd0}, digit, true, 0, false, false, by_one});
    Try({kNames[i], {0xd1}, digit, false, 0, false, false, by_one});
    Try({kNames[i], {0xc0}, digit, true, 1, false, false, by_more});
    Try({kNames[i], {0xc1}, digit, false, 1, false, false, by_more});
    Try({kNames[i], {0xd2}, digit, true, 0, false, false, by_more});
    Try({kNames[i], {0xd3}, digit, false, 0, false, false, by_more});
  }
}

TEST_P(EmulatorNative, BitsByImmediate) {
  Try({"bt", {0x0f, 0xba}, 4, false, 1, false, false, kBits});
  Try({"bts", {0x0f, 0xba}, 5, false, 1, true, false, kBits});
  Try({"btr", {0x0f, 0xba}, 6, false, 1, true, false, kBits});
  Try({"btc", {0x0f, 0xba}, 7, false, 1, true, false, kBits});
}

TEST_P(EmulatorNative, BitsByRegisterReachOutsideTheOperand) {
  constexpr uint8_t kOpcodes[] = {0xa3, 0xab, 0xb3, 0xbb};
  for (uint8_t opcode : kOpcodes) {
    const Form form = {"bt*", {0x0f, opcode}, -1, false, 0, opcode != 0xa3};
    for (unsigned i = 0; i < 2 * kTrials && !HasFailure(); ++i) {
      Trial trial = RandomTrial();
      InstructionBuilder builder(mode(), random(), native());
      const unsigned bytes = RandomOperandBytes(form);
      const uint64_t target = RandomTarget(512);
      trial.code = builder.Build(EncodingOf(form, bytes, RmKind::kMemory),
                                 RmKind::kMemory, target, trial.cpu);
      if (builder.AddressUses(builder.reg())) continue;
      const uint64_t offset = random().Below(8 * 512) - 8 * 256;
      uint64_t& reg = trial.cpu.gpr[builder.reg()];
      reg = bytes == 8 ? offset
                       : (reg & ~Truncate(~uint64_t{0}, bytes)) |
                             Truncate(offset, bytes);
      trial.undefined_flags = kBits;
      Compare(trial);
    }
  }
}

TEST_P(EmulatorNative, Moves) {
  Try({"mov", {0x88}, -1, true});
  Try({"mov", {0x89}, -1});
  Try({"mov", {0x8a}, -1, true});
  Try({"mov", {0x8b}, -1});
  Try({"mov", {0xc6}, 0, true, 1});
  Try({"mov", {0xc7}, 0, false, kOperand});
  Try({"movzx", {0x0f, 0xb6}, -1});
  Try({"movzx", {0x0f, 0xb7}, -1});
  Try({"movsx", {0x0f, 0xbe}, -1});
  Try({"movsx", {0x0f, 0xbf}, -1});
  Try({"mov from sreg", {0x8c}, 3});
  if (wide()) Try({"movsxd", {0x63}, -1});
}

TEST_P(EmulatorNative, MovesThatDoNotFillTheCache) {
  for (unsigned i = 0; i < kTrials && !HasFailure(); ++i) {
    Trial trial = RandomTrial();
    InstructionBuilder builder(mode(), random(), native());
    Encoding encoding = {.opcode = {0x0f, 0xc3}};
    if (wide() && random().OneIn(2)) encoding.operand_bytes = 8;
    if (mode() == CpuMode::k16Bit) encoding.operand_bytes = 2;  // no prefix
    trial.code =
        builder.Build(encoding, RmKind::kMemory, RandomTarget(), trial.cpu);
    Compare(trial);
  }
}

TEST_P(EmulatorNative, MovesByAddressAlone) {
  constexpr uint8_t kOpcodes[] = {0xa0, 0xa1, 0xa2, 0xa3};
  for (uint8_t opcode : kOpcodes) {
    for (unsigned i = 0; i < kTrials && !HasFailure(); ++i) {
      Trial trial = RandomTrial();
      if (random().OneIn(3)) trial.code.push_back(0x66);
      const bool other = random().OneIn(3);
      if (other) trial.code.push_back(0x67);
      if (wide() && random().OneIn(2)) trial.code.push_back(0x48);
      trial.code.push_back(opcode);
      unsigned bytes = wide() ? 8 : mode() == CpuMode::k32Bit ? 4 : 2;
      if (other) bytes = bytes == 4 ? 2 : 4;
      const WordBytes address =
          ToBytes(native().AddressOf(mode(), RandomTarget()));
      for (unsigned j = 0; j < bytes; ++j) {
        trial.code.push_back(std::to_integer<uint8_t>(address[j]));
      }
      Compare(trial);
    }
  }
}

TEST_P(EmulatorNative, ConditionalMovesAndSets) {
  for (unsigned condition = 0; condition < 16; ++condition) {
    const uint8_t low = static_cast<uint8_t>(condition);
    Try({"cmov", {0x0f, static_cast<uint8_t>(0x40 | low)}, -1});
    Try({"set", {0x0f, static_cast<uint8_t>(0x90 | low)}, 0, true});
  }
}

TEST_P(EmulatorNative, Exchanges) {
  Try({"xchg", {0x86}, -1, true, 0, true});
  Try({"xchg", {0x87}, -1, false, 0, true});
  Try({"xadd", {0x0f, 0xc0}, -1, true, 0, true});
  Try({"xadd", {0x0f, 0xc1}, -1, false, 0, true});
  Try({"cmpxchg", {0x0f, 0xb0}, -1, true, 0, true});
  Try({"cmpxchg", {0x0f, 0xb1}, -1, false, 0, true});
}

TEST_P(EmulatorNative, ComparesAndExchangesWhatIsEqual) {
  for (unsigned i = 0; i < 4 * kTrials && !HasFailure(); ++i) {
    Trial trial = RandomTrial();
    const bool byte = random().OneIn(4);
    const Form form = {
        "cmpxchg", {0x0f, static_cast<uint8_t>(byte ? 0xb0 : 0xb1)},
        -1,        byte,
        0,         true};
    InstructionBuilder builder(mode(), random(), native());
    const uint64_t target = RandomTarget();
    trial.code = builder.Build(
        EncodingOf(form, RandomOperandBytes(form), RmKind::kMemory),
        RmKind::kMemory, target, trial.cpu);
    Poke(target, 8, trial.cpu.gpr[kRax]);
    Compare(trial);
  }
}

TEST_P(EmulatorNative, ComparesAndExchangesPairs) {
  for (unsigned i = 0; i < 4 * kTrials && !HasFailure(); ++i) {
    Trial trial = RandomTrial();
    const bool sixteen = wide() && random().OneIn(2);
    Encoding encoding = {.opcode = {0x0f, 0xc7}, .digit = 1};
    encoding.operand_bytes = sixteen ? 8 : mode() == CpuMode::k16Bit ? 2 : 4;
    encoding.lock = random().OneIn(2);
    InstructionBuilder builder(mode(), random(), native());
    const uint64_t target = RandomTarget();
    trial.code = builder.Build(encoding, RmKind::kMemory, target, trial.cpu);
    if (random().OneIn(2)) {
      const unsigned half = sixteen ? 8 : 4;
      Poke(target, half, trial.cpu.gpr[kRax]);
      Poke(target + half, half, trial.cpu.gpr[kRdx]);
    }
    Compare(trial);
  }
  // CMPXCHG16B of an address that is not aligned is #GP.
  if (wide()) {
    EXPECT_GT(trapped(), 10u);
  }
}

TEST_P(EmulatorNative, LockWithoutReasonIsInvalid) {
  for (const std::vector<uint8_t>& opcode :
       std::vector<std::vector<uint8_t>>{{0x01}, {0x0f, 0xb1}, {0x87}}) {
    Trial trial = RandomTrial();
    InstructionBuilder builder(mode(), random(), native());
    trial.code = builder.Build({.opcode = opcode, .lock = true},
                               RmKind::kRegister, 0, trial.cpu);
    Compare(trial);
  }
  EXPECT_EQ(trapped(), 3u);
}

TEST_P(EmulatorNative, XmmMoves) {
  struct XmmForm {
    std::vector<uint8_t> opcode;
    std::optional<uint8_t> prefix;
  };
  const std::vector<XmmForm> forms = {
      {{0x0f, 0x10}, {}},   {{0x0f, 0x11}, {}},   {{0x0f, 0x10}, 0x66},
      {{0x0f, 0x11}, 0x66}, {{0x0f, 0x10}, 0xf3}, {{0x0f, 0x11}, 0xf3},
      {{0x0f, 0x10}, 0xf2}, {{0x0f, 0x11}, 0xf2}, {{0x0f, 0x28}, {}},
      {{0x0f, 0x29}, {}},   {{0x0f, 0x28}, 0x66}, {{0x0f, 0x29}, 0x66},
      {{0x0f, 0x6f}, 0x66}, {{0x0f, 0x7f}, 0x66}, {{0x0f, 0x6f}, 0xf3},
      {{0x0f, 0x7f}, 0xf3}, {{0x0f, 0xe7}, 0x66}, {{0x0f, 0x2b}, {}},
      {{0x0f, 0x2b}, 0x66}, {{0x0f, 0x6e}, 0x66}, {{0x0f, 0x7e}, 0x66},
      {{0x0f, 0x7e}, 0xf3}, {{0x0f, 0xd6}, 0x66}, {{0x0f, 0x12}, {}},
      {{0x0f, 0x13}, {}},   {{0x0f, 0x16}, {}},   {{0x0f, 0x17}, {}},
      {{0x0f, 0x12}, 0x66}, {{0x0f, 0x13}, 0x66}, {{0x0f, 0x16}, 0x66},
      {{0x0f, 0x17}, 0x66}, {{0x0f, 0xf0}, 0xf2}, {{0x0f, 0x38, 0x2a}, 0x66},
  };
  for (const XmmForm& form : forms) {
    for (unsigned i = 0; i < kTrials && !HasFailure(); ++i) {
      Trial trial = RandomTrial();
      Encoding encoding = {.opcode = form.opcode,
                           .mandatory_prefix = form.prefix};
      // Not an operand size: no further prefix.
      encoding.operand_bytes = mode() == CpuMode::k16Bit ? 2 : 4;
      if (wide() && random().OneIn(4)) encoding.operand_bytes = 8;
      InstructionBuilder builder(mode(), random(), native());
      trial.code =
          builder.Build(encoding, RmKind::kMemory, RandomTarget(), trial.cpu);
      Compare(trial);
    }
  }
  EXPECT_GT(trapped(), 10u);  // not aligned
}

INSTANTIATE_TEST_SUITE_P(, EmulatorNative,
                         testing::Values(CpuMode::k16Bit, CpuMode::k32Bit,
                                         CpuMode::k64Bit),
                         ModeName);

}  // namespace
}  // namespace hypervisor
