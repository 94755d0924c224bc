// The fixture of the emulator's tests: a kernel's state, and a bus of 64 KiB
// with its code at kBase, data and a stack.

#ifndef HYPERVISOR_TESTS_EMULATOR_FIXTURE_H_
#define HYPERVISOR_TESTS_EMULATOR_FIXTURE_H_

#include <cstdint>
#include <initializer_list>
#include <vector>

#include "emulate/cpu_state.h"
#include "emulate/emulator.h"
#include "gtest/gtest.h"
#include "tests/fake_bus.h"

namespace hypervisor {

class EmulatorTest : public testing::Test {
 protected:
  static constexpr uint64_t kBase = 0x100000;
  static constexpr uint64_t kData = kBase + 0x2000;
  static constexpr uint64_t kStack = kBase + 0x6000;

  static Segment Flat(uint16_t attributes) {
    return {.selector = 8, .attributes = attributes, .limit = 0xffffffff};
  }

  EmulatorTest() {
    // A kernel in 64-bit mode.
    cpu_.cr0 = cr0::kPe | cr0::kPg | cr0::kEt;
    cpu_.cr4 = shadowmmu::cr4::kPae | cr4::kOsfxsr;
    cpu_.efer = shadowmmu::efer::kLme | shadowmmu::efer::kLma;
    cpu_.rip = kBase;
    cpu_.gpr[kRsp] = kStack;
    cpu_.cs = Flat(0x9b | Segment::kLong | Segment::kGranularity);
    cpu_.ss = cpu_.ds = cpu_.es = cpu_.fs = cpu_.gs =
        Flat(0x93 | Segment::kDefault | Segment::kGranularity);
  }

  // A kernel with flat segments of 4 GiB.
  void Use32Bit() {
    cpu_.efer = 0;
    cpu_.cs = Flat(0x9b | Segment::kDefault | Segment::kGranularity);
  }

  void UseRealMode() {
    cpu_.cr0 = cr0::kEt;
    cpu_.efer = 0;
    for (Segment* segment :
         {&cpu_.es, &cpu_.cs, &cpu_.ss, &cpu_.ds, &cpu_.fs, &cpu_.gs}) {
      *segment = {.selector = 0xf000,
                  .attributes = 0x93,
                  .limit = 0xffff,
                  .base = kBase};
    }
    cpu_.rip = 0;
    cpu_.gpr[kRsp] = 0x6000;
  }

  EmulateOutcome Execute(std::initializer_list<uint8_t> code) {
    const std::vector<uint8_t> bytes(code);
    bus_.SetBytes(kBase, bytes);
    before_ = cpu_;
    return emulator_.Execute(cpu_, fx_, bus_);
  }

  void ExpectFault(const EmulateOutcome& outcome, const Exception& exception) {
    EXPECT_EQ(outcome.kind, EmulateOutcome::Kind::kException);
    EXPECT_EQ(outcome.exception.vector, exception.vector);
    EXPECT_EQ(outcome.exception.error_code, exception.error_code);
    EXPECT_EQ(outcome.exception.address, exception.address);
    EXPECT_EQ(cpu_, before_);
  }

  Emulator emulator_;
  FakeBus bus_{kBase, 0x10000};
  CpuState cpu_;
  CpuState before_;
  FxsaveImage fx_;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_TESTS_EMULATOR_FIXTURE_H_
