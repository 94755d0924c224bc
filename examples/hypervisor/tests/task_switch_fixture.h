// The fixture of the tests of task switches: a GDT, an old task that runs, and
// a new one in its TSS.

#ifndef HYPERVISOR_TESTS_TASK_SWITCH_FIXTURE_H_
#define HYPERVISOR_TESTS_TASK_SWITCH_FIXTURE_H_

#include <cstdint>
#include <optional>

#include "emulate/cpu_state.h"
#include "emulate/descriptor.h"
#include "emulate/task_switch.h"
#include "gtest/gtest.h"
#include "tests/fake_bus.h"

namespace hypervisor {

class TaskSwitchTest : public testing::Test {
 protected:
  static constexpr uint64_t kBase = 0x100000;
  static constexpr uint64_t kGdt = kBase;
  static constexpr uint64_t kOldTss = kBase + 0x1000;
  static constexpr uint64_t kNewTss = kBase + 0x2000;
  static constexpr uint64_t kNewStack = kBase + 0x4000;

  // Selectors; the segments at 0x08 and 0x10 are the old task's, too.
  static constexpr uint16_t kCode = 0x08;
  static constexpr uint16_t kData = 0x10;
  static constexpr uint16_t kOldTask = 0x18;
  static constexpr uint16_t kNewTask = 0x20;
  static constexpr uint16_t kAbsent = 0x28;
  static constexpr uint16_t kLdtSelector = 0x30;
  static constexpr uint16_t kUserCode = 0x38;
  static constexpr uint16_t kUserData = 0x40;
  static constexpr uint16_t kGdtLimit = 0x47;

  // Fields of a 32-bit TSS.
  enum Tss32 : unsigned {
    kLink = 0x00,
    kCr3 = 0x1c,
    kEip = 0x20,
    kEflags = 0x24,
    kEax = 0x28,
    kEsp = 0x38,
    kEs = 0x48,
    kCs = 0x4c,
    kSs = 0x50,
    kDs = 0x54,
    kGs = 0x5c,
    kLdt = 0x60,
    kTrap = 0x64,
  };

  static uint64_t Descriptor(uint64_t base, uint64_t limit,
                             uint64_t attributes) {
    return (limit & 0xffff) | (base & 0xffffff) << 16 |
           (attributes & 0xff) << 40 | (limit & 0xf0000) << 32 |
           (attributes & 0xf00) << 44 | (base & 0xff000000) << 32;
  }

  TaskSwitchTest() {
    SetDescriptor(kCode, Descriptor(0, 0xfffff, 0xc9a));
    SetDescriptor(kData, Descriptor(0, 0xfffff, 0xc92));
    SetDescriptor(kOldTask, Descriptor(kOldTss, 0x67, 0x08b));
    SetDescriptor(kNewTask, Descriptor(kNewTss, 0x67, 0x089));
    SetDescriptor(kAbsent, Descriptor(0, 0xfffff, 0xc12));
    SetDescriptor(kLdtSelector, Descriptor(kBase + 0x800, 0xff, 0x082));
    SetDescriptor(kUserCode, Descriptor(0, 0xfffff, 0xcfa));
    SetDescriptor(kUserData, Descriptor(0, 0xfffff, 0xcf2));

    cpu_.cr0 = cr0::kPe | cr0::kPg | cr0::kEt;
    cpu_.cr3 = 0x9000;
    cpu_.rip = 0x1234;
    cpu_.rflags = rflags::kFixed | rflags::kIf | rflags::kCf;
    for (unsigned i = 0; i < 8; ++i) cpu_.gpr[i] = 0x10101010 * (i + 1);
    cpu_.gdtr = {.limit = kGdtLimit, .base = kGdt};
    cpu_.cs = SegmentFrom(kCode, Word(kGdt + kCode));
    cpu_.ss = cpu_.ds = cpu_.es = SegmentFrom(kData, Word(kGdt + kData));
    cpu_.tr = SegmentFrom(kOldTask, Word(kGdt + kOldTask));
    cpu_.dr7 = 0x4ff;

    SetNew(kCr3, 0xa000);
    SetNew(kEip, 0x5678);
    SetNew(kEflags, rflags::kFixed | rflags::kZf);
    for (unsigned i = 0; i < 8; ++i) SetNew(kEax + 4 * i, 0xa0 + i);
    SetNew(kEsp, kNewStack);
    SetNew(kCs, kCode);
    SetNew(kSs, kData);
    SetNew(kDs, kData);
    SetNew(kEs, kData);
  }

  uint64_t Word(uint64_t address) const { return bus_.Word(address, 8); }
  void SetDescriptor(uint16_t selector, uint64_t descriptor) {
    bus_.SetWord(kGdt + selector, 8, descriptor);
  }
  uint64_t Old(unsigned field) const { return bus_.Word(kOldTss + field, 4); }
  uint64_t New(unsigned field) const { return bus_.Word(kNewTss + field, 4); }
  void SetNew(unsigned field, uint64_t value) {
    bus_.SetWord(kNewTss + field, 4, value);
  }
  bool Busy(uint16_t selector) const {
    return (bus_.Word(kGdt + selector + 5, 1) & 2) != 0;
  }

  TaskSwitchOutcome Switch(TaskSwitchCause cause,
                           std::optional<uint32_t> error_code = std::nullopt) {
    TaskSwitchRequest request;
    request.cause = cause;
    request.selector = kNewTask;
    request.saved_rip = 0x1236;
    request.error_code = error_code;
    if (cause == TaskSwitchCause::kEvent) {
      request.source = EventSource::kExternal;
    }
    before_ = cpu_;
    auto load_cr3 = [this](uint64_t cr3) {
      loaded_cr3_ = cr3;
      return accepts_cr3_;
    };
    return TaskSwitch(cpu_, bus_, load_cr3).Run(request);
  }

  // Before the commit point: the old task goes on.
  void ExpectRefused(const TaskSwitchOutcome& outcome,
                     const Exception& exception) {
    EXPECT_EQ(outcome.result.kind, BusResult::Kind::kException);
    EXPECT_EQ(outcome.result.exception.vector, exception.vector);
    EXPECT_EQ(outcome.result.exception.error_code, exception.error_code);
    EXPECT_FALSE(outcome.committed);
    EXPECT_EQ(cpu_, before_);
    EXPECT_TRUE(Busy(kOldTask));
  }
  // After it: the new task has begun.
  void ExpectFaultInNewTask(const TaskSwitchOutcome& outcome,
                            const Exception& exception) {
    EXPECT_EQ(outcome.result.kind, BusResult::Kind::kException);
    EXPECT_EQ(outcome.result.exception.vector, exception.vector);
    EXPECT_EQ(outcome.result.exception.error_code, exception.error_code);
    EXPECT_TRUE(outcome.committed);
    EXPECT_EQ(cpu_.tr.selector, kNewTask);
    EXPECT_EQ(cpu_.rip, 0x5678u);
    EXPECT_TRUE(Busy(kNewTask));
  }

  FakeBus bus_{kBase, 0x8000};
  CpuState cpu_;
  CpuState before_;
  std::optional<uint64_t> loaded_cr3_;
  bool accepts_cr3_ = true;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_TESTS_TASK_SWITCH_FIXTURE_H_
