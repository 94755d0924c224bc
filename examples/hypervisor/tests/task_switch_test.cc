// Hardware task switches between two tasks in memory: what is saved, what is
// loaded, and which exception belongs to which of them.

#include "emulate/task_switch.h"

#include <cstdint>
#include <optional>

#include "emulate/cpu_state.h"
#include "emulate/descriptor.h"
#include "gtest/gtest.h"
#include "tests/fake_bus.h"
#include "tests/task_switch_fixture.h"

namespace hypervisor {
namespace {

using Call = FakeBus::Call;
using shadowmmu::Gva;

TEST_F(TaskSwitchTest, JumpSavesTheOldTask) {
  cpu_.rflags |= rflags::kRf;
  ASSERT_TRUE(Switch(TaskSwitchCause::kJump).result.ok());
  EXPECT_EQ(Old(kEip), 0x1236u);
  EXPECT_EQ(Old(kEflags), rflags::kFixed | rflags::kIf | rflags::kCf);
  for (unsigned i = 0; i < 8; ++i) {
    EXPECT_EQ(Old(kEax + 4 * i), 0x10101010u * (i + 1));
  }
  EXPECT_EQ(Old(kCs), kCode);
  EXPECT_EQ(Old(kSs), kData);
  EXPECT_EQ(Old(kGs), 0u);
}

TEST_F(TaskSwitchTest, JumpLoadsTheNewTask) {
  const TaskSwitchOutcome outcome = Switch(TaskSwitchCause::kJump);
  ASSERT_TRUE(outcome.result.ok());
  EXPECT_TRUE(outcome.committed);
  EXPECT_FALSE(outcome.debug_trap);
  EXPECT_EQ(cpu_.rip, 0x5678u);
  EXPECT_EQ(cpu_.rflags, rflags::kFixed | rflags::kZf);
  EXPECT_EQ(cpu_.gpr[kRcx], 0xa1u);
  EXPECT_EQ(cpu_.gpr[kRsp], kNewStack);
  EXPECT_EQ(cpu_.cs.selector, kCode);
  EXPECT_EQ(cpu_.cs.limit, 0xffffffffu);
  EXPECT_EQ(cpu_.cs.attributes, 0xc9b);
  EXPECT_EQ(cpu_.fs, Segment{});
  EXPECT_EQ(cpu_.tr.selector, kNewTask);
  EXPECT_EQ(cpu_.tr.base, kNewTss);
  EXPECT_EQ(cpu_.tr.attributes & Segment::kType, 0xb);
  EXPECT_EQ(cpu_.cr3, 0xa000u);
  EXPECT_EQ(loaded_cr3_, 0xa000u);
  EXPECT_NE(cpu_.cr0 & cr0::kTs, 0u);
  EXPECT_EQ(cpu_.dr7, 0x4aau);
}

TEST_F(TaskSwitchTest, JumpLeavesNoTaskToReturnTo) {
  SetNew(kLink, 0x77);
  ASSERT_TRUE(Switch(TaskSwitchCause::kJump).result.ok());
  EXPECT_FALSE(Busy(kOldTask));
  EXPECT_TRUE(Busy(kNewTask));
  EXPECT_EQ(New(kLink), 0x77u);
  EXPECT_EQ(cpu_.rflags & rflags::kNt, 0u);
}

TEST_F(TaskSwitchTest, CallNestsTheNewTask) {
  ASSERT_TRUE(Switch(TaskSwitchCause::kCall).result.ok());
  EXPECT_TRUE(Busy(kOldTask));
  EXPECT_TRUE(Busy(kNewTask));
  EXPECT_EQ(New(kLink), kOldTask);
  EXPECT_NE(cpu_.rflags & rflags::kNt, 0u);
}

TEST_F(TaskSwitchTest, IretReturnsToABusyTask) {
  SetDescriptor(kNewTask, Descriptor(kNewTss, 0x67, 0x08b));
  cpu_.rflags |= rflags::kNt;
  ASSERT_TRUE(Switch(TaskSwitchCause::kIret).result.ok());
  EXPECT_FALSE(Busy(kOldTask));
  EXPECT_TRUE(Busy(kNewTask));
  EXPECT_EQ(Old(kEflags) & rflags::kNt, 0u);
}

TEST_F(TaskSwitchTest, EventPushesItsErrorCode) {
  ASSERT_TRUE(Switch(TaskSwitchCause::kEvent, 0xdeadbeef).result.ok());
  EXPECT_EQ(cpu_.gpr[kRsp], kNewStack - 4);
  EXPECT_EQ(bus_.Word(kNewStack - 4, 4), 0xdeadbeefu);
  EXPECT_EQ(New(kLink), kOldTask);
}

TEST_F(TaskSwitchTest, EventWithoutErrorCodePushesNothing) {
  ASSERT_TRUE(Switch(TaskSwitchCause::kEvent).result.ok());
  EXPECT_EQ(cpu_.gpr[kRsp], kNewStack);
}

TEST_F(TaskSwitchTest, SixteenBitTask) {
  SetDescriptor(kNewTask, Descriptor(kNewTss, 0x2b, 0x081));
  SetDescriptor(kCode, Descriptor(0, 0xffff, 0x09a));
  bus_.SetWord(kNewTss + 0x0e, 2, 0x4321);       // IP
  bus_.SetWord(kNewTss + 0x10, 2, rflags::kZf);  // FLAGS
  bus_.SetWord(kNewTss + 0x12, 2, 0xaaaa);       // AX
  bus_.SetWord(kNewTss + 0x1a, 2, 0x8000);       // SP
  for (unsigned i = 0; i < 4; ++i) {
    bus_.SetWord(kNewTss + 0x22 + 2 * i, 2, i == 1 ? kCode : kData);
  }
  bus_.SetWord(kNewTss + 0x2a, 2, 0);
  ASSERT_TRUE(Switch(TaskSwitchCause::kCall).result.ok());
  EXPECT_EQ(cpu_.rip, 0x4321u);
  EXPECT_EQ(cpu_.rflags, rflags::kFixed | rflags::kZf | rflags::kNt);
  EXPECT_EQ(cpu_.gpr[kRax], 0xaaaau);
  EXPECT_EQ(cpu_.gpr[kRsp], 0x8000u);
  EXPECT_EQ(cpu_.ds.selector, kData);
  EXPECT_EQ(cpu_.gs, Segment{});
  EXPECT_EQ(loaded_cr3_, std::nullopt);
  EXPECT_EQ(cpu_.cr3, 0x9000u);
}

TEST_F(TaskSwitchTest, OldTaskOf16BitsIsSavedIn16Bits) {
  SetDescriptor(kOldTask, Descriptor(kOldTss, 0x2b, 0x083));
  cpu_.tr = SegmentFrom(kOldTask, Word(kGdt + kOldTask));
  bus_.SetWord(kOldTss + 0x2a, 2, 0x7777);
  ASSERT_TRUE(Switch(TaskSwitchCause::kJump).result.ok());
  EXPECT_EQ(bus_.Word(kOldTss + 0x0e, 2), 0x1236u);
  EXPECT_EQ(bus_.Word(kOldTss + 0x12, 2), 0x1010u);
  EXPECT_EQ(bus_.Word(kOldTss + 0x28, 2), kData);
  EXPECT_EQ(bus_.Word(kOldTss + 0x2a, 2), 0x7777u);
}

TEST_F(TaskSwitchTest, Virtual8086TaskHasSegmentsOfRealMode) {
  SetNew(kEflags, rflags::kFixed | rflags::kVm);
  SetNew(kCs, 0x1234);
  ASSERT_TRUE(Switch(TaskSwitchCause::kJump).result.ok());
  EXPECT_EQ(cpu_.cpl, 3);
  EXPECT_EQ(cpu_.cs.base, 0x12340u);
  EXPECT_EQ(cpu_.cs.limit, 0xffffu);
  EXPECT_EQ(cpu_.cs.attributes, 0xf3);
}

TEST_F(TaskSwitchTest, UserTaskHasThePrivilegeOfItsCode) {
  SetNew(kCs, kUserCode | 3);
  SetNew(kSs, kUserData | 3);
  SetNew(kDs, kUserData | 3);
  SetNew(kEs, 0);
  ASSERT_TRUE(Switch(TaskSwitchCause::kJump).result.ok());
  EXPECT_EQ(cpu_.cpl, 3);
}

TEST_F(TaskSwitchTest, LdtOfTheNewTaskIsLoaded) {
  SetNew(kLdt, kLdtSelector);
  bus_.SetWord(kBase + 0x800 + 8, 8, Descriptor(0x5000, 0xfff, 0x492));
  SetNew(kGs, 8 | selector::kLdt);
  ASSERT_TRUE(Switch(TaskSwitchCause::kJump).result.ok());
  EXPECT_EQ(cpu_.ldtr.base, kBase + 0x800);
  EXPECT_EQ(cpu_.gs.base, 0x5000u);
}

TEST_F(TaskSwitchTest, TrapBitOfTheTssIsReported) {
  SetNew(kTrap, 1);
  EXPECT_TRUE(Switch(TaskSwitchCause::kJump).debug_trap);
}

TEST_F(TaskSwitchTest, TablesAreReadAsImplicitSupervisor) {
  cpu_.cpl = 3;
  bus_.PageAt(kGdt).user = false;
  bus_.PageAt(kOldTss).user = false;
  bus_.PageAt(kNewTss).user = false;
  EXPECT_TRUE(Switch(TaskSwitchCause::kJump).result.ok());
}

// ---- Before the commit point ----

TEST_F(TaskSwitchTest, BusyTaskIsRefused) {
  SetDescriptor(kNewTask, Descriptor(kNewTss, 0x67, 0x08b));
  ExpectRefused(Switch(TaskSwitchCause::kJump),
                Exception::GeneralProtection(kNewTask));
  ExpectRefused(Switch(TaskSwitchCause::kEvent),
                Exception::GeneralProtection(kNewTask | 1));
}

TEST_F(TaskSwitchTest, ReturnToATaskThatIsNotBusyIsRefused) {
  ExpectRefused(Switch(TaskSwitchCause::kIret),
                Exception::InvalidTss(kNewTask));
}

TEST_F(TaskSwitchTest, AbsentTssIsRefused) {
  SetDescriptor(kNewTask, Descriptor(kNewTss, 0x67, 0x009));
  ExpectRefused(Switch(TaskSwitchCause::kJump),
                Exception::SegmentNotPresent(kNewTask));
}

TEST_F(TaskSwitchTest, ShortTssIsRefused) {
  SetDescriptor(kNewTask, Descriptor(kNewTss, 0x66, 0x089));
  ExpectRefused(Switch(TaskSwitchCause::kJump),
                Exception::InvalidTss(kNewTask));
}

TEST_F(TaskSwitchTest, TssBeyondTheGdtIsRefused) {
  cpu_.gdtr.limit = kNewTask;
  ExpectRefused(Switch(TaskSwitchCause::kJump),
                Exception::GeneralProtection(kNewTask));
}

TEST_F(TaskSwitchTest, LongModeHasNoTaskSwitches) {
  cpu_.efer = shadowmmu::efer::kLma;
  ExpectRefused(Switch(TaskSwitchCause::kJump),
                Exception::GeneralProtection(kNewTask));
}

TEST_F(TaskSwitchTest, PageFaultOnTheNewTssIsTheOldTasks) {
  bus_.PageAt(kNewTss).present = false;
  ExpectRefused(Switch(TaskSwitchCause::kJump),
                Exception::PageFault(0, Gva(kNewTss)));
  EXPECT_EQ(bus_.Count(Call::kWrite), 0u);
}

TEST_F(TaskSwitchTest, PageFaultOnTheOldTssIsTheOldTasks) {
  bus_.PageAt(kOldTss).writable = false;
  ExpectRefused(Switch(TaskSwitchCause::kJump),
                Exception::PageFault(3, Gva(kOldTss)));
  EXPECT_EQ(bus_.Count(Call::kWrite), 0u);
}

TEST_F(TaskSwitchTest, ReadOnlyNewTssCannotHoldALink) {
  bus_.PageAt(kNewTss).writable = false;
  ExpectRefused(Switch(TaskSwitchCause::kCall),
                Exception::PageFault(3, Gva(kNewTss)));
  EXPECT_TRUE(Switch(TaskSwitchCause::kJump).result.ok());
}

TEST_F(TaskSwitchTest, RetryBeforeAnyWriteIsTheCallers) {
  bus_.before = [](const FakeBus::Entry& entry) -> std::optional<BusResult> {
    if (entry.call == Call::kProbe) return BusResult::Retry();
    return std::nullopt;
  };
  const TaskSwitchOutcome outcome = Switch(TaskSwitchCause::kJump);
  EXPECT_EQ(outcome.result.kind, BusResult::Kind::kRetry);
  EXPECT_EQ(cpu_, before_);
}

TEST_F(TaskSwitchTest, RetryAfterAWriteIsMadeGoodHere) {
  unsigned retries = 0;
  bus_.before = [&](const FakeBus::Entry& entry) -> std::optional<BusResult> {
    if (bus_.Count(Call::kWrite) == 0 || entry.call == Call::kWrite) {
      return std::nullopt;
    }
    if (++retries % 2 == 1) return BusResult::Retry();
    return std::nullopt;
  };
  EXPECT_TRUE(Switch(TaskSwitchCause::kJump).result.ok());
  EXPECT_GT(retries, 4u);
}

// ---- After it ----

TEST_F(TaskSwitchTest, BadCodeSegmentIsTheNewTasks) {
  SetNew(kCs, kData);
  ExpectFaultInNewTask(Switch(TaskSwitchCause::kJump),
                       Exception::InvalidTss(kData));
  EXPECT_EQ(cpu_.cs.selector, kData);
}

TEST_F(TaskSwitchTest, NullStackSegmentIsInvalid) {
  SetNew(kSs, 0);
  ExpectFaultInNewTask(Switch(TaskSwitchCause::kJump),
                       Exception::InvalidTss(0));
}

TEST_F(TaskSwitchTest, AbsentStackSegmentIsAStackFault) {
  SetNew(kSs, kAbsent);
  ExpectFaultInNewTask(Switch(TaskSwitchCause::kJump),
                       Exception::Stack(kAbsent));
}

TEST_F(TaskSwitchTest, AbsentDataSegmentIsNotPresent) {
  SetNew(kDs, kAbsent);
  ExpectFaultInNewTask(Switch(TaskSwitchCause::kJump),
                       Exception::SegmentNotPresent(kAbsent));
  // What comes before it is loaded.
  EXPECT_EQ(cpu_.cs.limit, 0xffffffffu);
  EXPECT_EQ(cpu_.ss.limit, 0xffffffffu);
}

TEST_F(TaskSwitchTest, StackOfAnotherPrivilegeIsInvalid) {
  SetNew(kSs, kUserData | 3);
  ExpectFaultInNewTask(Switch(TaskSwitchCause::kJump),
                       Exception::InvalidTss(kUserData));
}

TEST_F(TaskSwitchTest, BadLdtIsInvalid) {
  SetNew(kLdt, kData);
  ExpectFaultInNewTask(Switch(TaskSwitchCause::kEvent),
                       Exception::InvalidTss(kData | 1));
}

TEST_F(TaskSwitchTest, Cr3IsLoadedBeforeDescriptorsAreRead) {
  // With the new page table the GDT is not mapped.
  SetNew(kEs, kUserData);
  TaskSwitchRequest request;
  request.selector = kNewTask;
  auto load_cr3 = [this](uint64_t) {
    bus_.PageAt(kGdt).present = false;
    return true;
  };
  const TaskSwitchOutcome outcome =
      TaskSwitch(cpu_, bus_, load_cr3).Run(request);
  ExpectFaultInNewTask(outcome, Exception::PageFault(0, Gva(kGdt + kCode)));
}

TEST_F(TaskSwitchTest, RefusedCr3IsTheNewTasks) {
  accepts_cr3_ = false;
  ExpectFaultInNewTask(Switch(TaskSwitchCause::kJump),
                       Exception::GeneralProtection());
  EXPECT_EQ(cpu_.cr3, 0x9000u);
}

TEST_F(TaskSwitchTest, ErrorCodeThatCannotBePushedIsTheNewTasks) {
  bus_.PageAt(kNewStack - 4).present = false;
  ExpectFaultInNewTask(Switch(TaskSwitchCause::kEvent, 0),
                       Exception::PageFault(2, Gva(kNewStack - 4)));
  EXPECT_EQ(cpu_.gpr[kRsp], kNewStack);
}

TEST_F(TaskSwitchTest, InstructionPointerBeyondItsSegmentIsTheNewTasks) {
  SetDescriptor(kCode, Descriptor(0, 0x5677, 0x49a));
  ExpectFaultInNewTask(Switch(TaskSwitchCause::kJump),
                       Exception::GeneralProtection());
}

}  // namespace
}  // namespace hypervisor
