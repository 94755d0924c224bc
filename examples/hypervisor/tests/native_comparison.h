// The fixture of tests that hold the emulator against the CPU that they run on:
// the same instruction from the same registers and memory on, once on either,
// and then both are compared, whole.

#ifndef HYPERVISOR_TESTS_NATIVE_COMPARISON_H_
#define HYPERVISOR_TESTS_NATIVE_COMPARISON_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "emulate/emulator.h"
#include "gtest/gtest.h"
#include "tests/fake_bus.h"
#include "tests/instruction_builder.h"
#include "tests/native_cpu.h"

namespace hypervisor {

class NativeComparison : public testing::TestWithParam<CpuMode> {
 protected:
  // One instruction, and what the manuals leave undefined after it.
  struct Trial {
    std::vector<uint8_t> code = {};
    CpuState cpu = {};
    FxsaveImage fx = {};
    uint64_t undefined_flags = 0;
  };

  CpuMode mode() const { return GetParam(); }
  NativeCpu& native() { return native_; }
  Random& random() { return random_; }
  bool wide() const { return mode() == CpuMode::k64Bit; }

  // Makers differ in what the manuals leave open: which exception comes first,
  // the upper half of what CMPXCHG leaves alone. The emulator follows Intel's.
  static bool IsIntel() { return __builtin_cpu_is("intel") != 0; }

  void SetUp() override {
    if (!IsIntel())
      GTEST_SKIP() << "the emulator follows Intel's CPUs, and this is none";
    if (!native_.Can(mode())) GTEST_SKIP() << "no such code on this machine";
    bus_.emplace(native_.base(), NativeCpu::kBytes);
  }

  // Random registers, flags, XMM registers and data.
  Trial RandomTrial() {
    Trial trial;
    trial.cpu = native_.State(mode());
    for (unsigned i = 0; i < trial.cpu.gpr.size(); ++i) {
      if (i == kRsp) continue;
      const uint64_t value = random_.Value();
      trial.cpu.gpr[i] = wide() ? value : i < 8 ? value & 0xffffffff : 0;
    }
    trial.cpu.gpr[kRsp] -= 0x100 + 8 * random_.Below(64);
    trial.cpu.rflags |= random_.Next() & (rflags::kStatus | rflags::kDf);
    for (unsigned i = 0; i < 16; ++i) {
      const WordBytes low = ToBytes(random_.Next());
      const size_t xmm = FxsaveImage::kXmm + FxsaveImage::kXmmBytes * i;
      std::copy(low.begin(), low.end(), trial.fx.bytes.begin() + xmm);
      std::copy(low.begin(), low.end(), trial.fx.bytes.begin() + xmm + 8);
      trial.fx.bytes[xmm + 9] ^= std::byte{0x5a};
    }
    const WordBytes mxcsr = ToBytes(0x1f80);
    std::copy_n(mxcsr.begin(), 4, trial.fx.bytes.begin() + 24);
    FillRandom(NativeCpu::kData, NativeCpu::kDataBytes);
    FillRandom(NativeCpu::kStack, NativeCpu::kStackBytes);
    return trial;
  }

  // Somewhere in the data, `bytes` from its end or more.
  uint64_t RandomTarget(uint64_t bytes = 64) {
    uint64_t target = NativeCpu::kData +
                      random_.Below(NativeCpu::kDataBytes - 2 * bytes) + bytes;
    return random_.OneIn(2) ? target & ~uint64_t{15} : target;
  }

  // A word of the arena as the guest sees it before the instruction.
  void Poke(uint64_t offset, unsigned bytes, uint64_t value) {
    std::memcpy(native_.arena().data() + offset, &value, bytes);
  }
  uint64_t Peek(uint64_t offset, unsigned bytes) {
    uint64_t value = 0;
    std::memcpy(&value, native_.arena().data() + offset, bytes);
    return value;
  }

  // A page of the arena that the guest may not write from now on.
  void SetReadOnly(uint64_t offset) {
    bus_->PageAt(native_.base() + offset).writable = false;
    read_only_ = offset;
  }

  void Compare(const Trial& trial) {
    FakeBus& bus = bus_.value();
    bus.log().clear();
    CopyArena(bus);
    bus.SetBytes(native_.base(), trial.code);
    CpuState emulated = trial.cpu;
    FxsaveImage emulated_fx = trial.fx;
    EmulateOutcome outcome;
    do {
      outcome = emulator_.Execute(emulated, emulated_fx, bus);
    } while (outcome.kind == EmulateOutcome::Kind::kMore);

    CpuState real = trial.cpu;
    FxsaveImage real_fx = trial.fx;
    if (read_only_) native_.Protect(*read_only_, PROT_READ);
    const std::optional<Exception> trap =
        native_.Run(mode(), trial.code, real, real_fx);
    if (read_only_) native_.Protect(*read_only_, PROT_READ | PROT_WRITE);
    CompareOutcome(outcome, trap);
    CompareStates(trial, emulated, real);
    EXPECT_TRUE(SameXmm(emulated_fx, real_fx));
    EXPECT_TRUE(SameMmx(emulated_fx, real_fx));
    CompareMemory(bus);
    ++compared_;
    if (trap) ++trapped_;
    if (HasFailure()) {
      ADD_FAILURE() << emulator_.Describe(outcome.instruction) << "\n"
                    << Text(trial.cpu);
    }
  }

  unsigned compared() const { return compared_; }
  unsigned trapped() const { return trapped_; }

 private:
  // What a comparison looks at: data and stack.
  static constexpr uint64_t kFirst = NativeCpu::kData;
  static constexpr uint64_t kEnd = NativeCpu::kStack + NativeCpu::kStackBytes;

  void FillRandom(uint64_t offset, uint64_t bytes) {
    for (uint64_t i = 0; i < bytes; i += 8) Poke(offset + i, 8, random_.Next());
  }

  void CopyArena(FakeBus& bus) {
    std::memcpy(bus.memory().data() + kFirst, native_.arena().data() + kFirst,
                kEnd - kFirst);
  }

  static std::string Text(const CpuState& cpu) {
    std::ostringstream text;
    text << std::hex << "rip " << cpu.rip << " rflags " << cpu.rflags;
    for (size_t i = 0; i < cpu.gpr.size(); ++i) {
      text << (i % 4 == 0 ? "\n" : " ") << "r" << std::dec << i << std::hex
           << " " << cpu.gpr[i];
    }
    return text.str();
  }

  void CompareOutcome(const EmulateOutcome& outcome,
                      const std::optional<Exception>& trap) {
    if (!trap) {
      EXPECT_EQ(outcome.kind, EmulateOutcome::Kind::kDone);
      return;
    }
    ASSERT_EQ(outcome.kind, EmulateOutcome::Kind::kException)
        << "vector " << static_cast<int>(trap->vector);
    EXPECT_EQ(outcome.exception.vector, trap->vector);
    EXPECT_EQ(outcome.exception.error_code.value_or(0), trap->error_code);
    EXPECT_EQ(outcome.exception.address, trap->address);
  }

  void CompareStates(const Trial& trial, const CpuState& emulated,
                     const CpuState& real) {
    EXPECT_EQ(emulated.rip, real.rip);
    // The upper halves do not survive code that is not 64 bits wide.
    const uint64_t mask = wide() ? ~uint64_t{0} : 0xffffffff;
    const unsigned registers = wide() ? 16 : 8;
    for (unsigned i = 0; i < registers; ++i) {
      EXPECT_EQ(emulated.gpr[i] & mask, real.gpr[i] & mask) << "gpr " << i;
    }
    const uint64_t defined = ~trial.undefined_flags;
    EXPECT_EQ(emulated.rflags & defined, real.rflags & defined)
        << std::hex << emulated.rflags << " against " << real.rflags;
  }

  bool SameXmm(const FxsaveImage& a, const FxsaveImage& b) const {
    const size_t registers = wide() ? 16 : 8;
    return std::memcmp(a.bytes.data() + FxsaveImage::kXmm,
                       b.bytes.data() + FxsaveImage::kXmm,
                       registers * FxsaveImage::kXmmBytes) == 0;
  }

  // The x87 registers' lower parts.
  static bool SameMmx(const FxsaveImage& a, const FxsaveImage& b) {
    constexpr size_t kFirstMmx = 32;
    for (size_t at = kFirstMmx; at < FxsaveImage::kXmm; at += 16) {
      if (std::memcmp(&a.bytes[at], &b.bytes[at], 8) != 0) return false;
    }
    return true;
  }

  void CompareMemory(FakeBus& bus) {
    const std::byte* real = native_.arena().data();
    const std::byte* emulated = bus.memory().data();
    if (std::memcmp(emulated + kFirst, real + kFirst, kEnd - kFirst) == 0) {
      return;
    }
    uint64_t at = kFirst;
    while (emulated[at] == real[at]) ++at;
    ADD_FAILURE() << std::hex << "memory differs from offset " << at
                  << " on: " << bus.Word(native_.base() + at, 8) << " against "
                  << Peek(at, 8);
  }

  NativeCpu native_;
  Random random_{20260101};
  Emulator emulator_;
  std::optional<FakeBus> bus_;
  std::optional<uint64_t> read_only_;
  unsigned compared_ = 0;
  unsigned trapped_ = 0;
};

inline std::string ModeName(const testing::TestParamInfo<CpuMode>& info) {
  switch (info.param) {
    case CpuMode::k16Bit:
      return "16Bit";
    case CpuMode::k32Bit:
      return "32Bit";
    case CpuMode::k64Bit:
      break;
  }
  return "64Bit";
}

}  // namespace hypervisor

#endif  // HYPERVISOR_TESTS_NATIVE_COMPARISON_H_
