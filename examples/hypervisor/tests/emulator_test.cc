// The emulator on a bus that says no, and in modes that an ordinary process
// cannot be in: what the comparison with a real CPU cannot show.

#include "emulate/emulator.h"

#include <cstdint>
#include <optional>
#include <vector>

#include "emulate/cpu_state.h"
#include "gtest/gtest.h"
#include "tests/emulator_fixture.h"
#include "tests/fake_bus.h"

namespace hypervisor {
namespace {

using Kind = EmulateOutcome::Kind;
using Call = FakeBus::Call;
using shadowmmu::AccessType;
using shadowmmu::Gva;
using shadowmmu::Implicit;
using shadowmmu::Privilege;

TEST_F(EmulatorTest, StoreIsOneWriteOfItsSize) {
  cpu_.gpr[kRbx] = kData;
  cpu_.gpr[kRax] = 0x1122334455667788;
  EXPECT_EQ(Execute({0x48, 0x89, 0x03}).kind, Kind::kDone);
  EXPECT_EQ(bus_.Word(kData, 8), 0x1122334455667788u);
  EXPECT_EQ(cpu_.rip, kBase + 3);
  EXPECT_EQ(bus_.Count(Call::kWrite), 1u);
  const FakeBus::Entry& write = bus_.log().back();
  EXPECT_EQ(write.bytes, 8u);
  EXPECT_EQ(write.access.type, AccessType::kWrite);
  EXPECT_EQ(write.access.privilege, Privilege::kSupervisor);
  EXPECT_EQ(write.access.implicit, Implicit::kNo);
}

TEST_F(EmulatorTest, StoreThatCrossesAPageIsOneWrite) {
  cpu_.gpr[kRbx] = kData + 0xffd;
  EXPECT_EQ(Execute({0x48, 0x89, 0x03}).kind, Kind::kDone);
  EXPECT_EQ(bus_.Count(Call::kWrite), 1u);
}

TEST_F(EmulatorTest, StoreWhoseSecondPageFaultsChangesNothing) {
  bus_.PageAt(kData + 0x1000).writable = false;
  cpu_.gpr[kRbx] = kData + 0xffd;
  cpu_.gpr[kRax] = ~uint64_t{0};
  ExpectFault(Execute({0x48, 0x89, 0x03}),
              Exception::PageFault(3, Gva(kData + 0x1000)));
  EXPECT_EQ(bus_.Word(kData + 0xff8, 8), 0u);
}

TEST_F(EmulatorTest, ReadModifyWriteAsksToWriteBeforeItReads) {
  bus_.PageAt(kData).writable = false;
  cpu_.gpr[kRbx] = kData;
  ExpectFault(Execute({0x01, 0x03}), Exception::PageFault(3, Gva(kData)));
  EXPECT_EQ(bus_.log().back().call, Call::kRead);
  EXPECT_EQ(bus_.log().back().access.type, AccessType::kWrite);
}

TEST_F(EmulatorTest, UserModeAccessesAreUserAccesses) {
  cpu_.cpl = 3;
  bus_.PageAt(kData).user = false;
  cpu_.gpr[kRbx] = kData;
  ExpectFault(Execute({0x8b, 0x03}), Exception::PageFault(5, Gva(kData)));
}

TEST_F(EmulatorTest, LockedReadModifyWriteIsACompareExchange) {
  cpu_.gpr[kRbx] = kData;
  cpu_.gpr[kRax] = 5;
  bus_.SetWord(kData, 4, 7);
  EXPECT_EQ(Execute({0xf0, 0x01, 0x03}).kind, Kind::kDone);
  EXPECT_EQ(bus_.Word(kData, 4), 12u);
  EXPECT_EQ(bus_.Count(Call::kExchange), 1u);
  EXPECT_EQ(bus_.Count(Call::kWrite), 0u);
}

TEST_F(EmulatorTest, LockedReadModifyWriteStartsAnewWhenAnotherCpuWasFaster) {
  cpu_.gpr[kRbx] = kData;
  cpu_.gpr[kRax] = 1;
  bool disturbed = false;
  bus_.before = [&](const FakeBus::Entry& entry) -> std::optional<BusResult> {
    if (entry.call == Call::kExchange && !disturbed) {
      disturbed = true;
      bus_.SetWord(kData, 4, 0xffffffff);
    }
    return std::nullopt;
  };
  EXPECT_EQ(Execute({0xf0, 0x01, 0x03}).kind, Kind::kDone);
  EXPECT_EQ(bus_.Word(kData, 4), 0u);
  EXPECT_NE(cpu_.rflags & rflags::kCf, 0u);
  EXPECT_EQ(bus_.Count(Call::kExchange), 2u);
}

TEST_F(EmulatorTest, LockedReadModifyWriteThatNeverWinsIsRetried) {
  cpu_.gpr[kRbx] = kData;
  uint64_t other = 0;
  bus_.before = [&](const FakeBus::Entry& entry) -> std::optional<BusResult> {
    if (entry.call == Call::kExchange) bus_.SetWord(kData, 4, ++other);
    return std::nullopt;
  };
  EXPECT_EQ(Execute({0xf0, 0xff, 0x03}).kind, Kind::kRetry);
  EXPECT_EQ(cpu_, before_);
}

TEST_F(EmulatorTest, RetryOfTheBusLeavesTheCpuAsItWas) {
  cpu_.gpr[kRbx] = kData;
  bus_.before = [](const FakeBus::Entry& entry) -> std::optional<BusResult> {
    if (entry.call == Call::kWrite) return BusResult::Retry();
    return std::nullopt;
  };
  EXPECT_EQ(Execute({0x01, 0x03}).kind, Kind::kRetry);
  EXPECT_EQ(cpu_, before_);
}

TEST_F(EmulatorTest, InstructionAcrossPagesIsFetchedFromBoth) {
  cpu_.rip = kBase + 0xffe;
  bus_.SetBytes(cpu_.rip, std::vector<uint8_t>{0xc7, 0x03, 1, 2, 3, 4});
  cpu_.gpr[kRbx] = kData;
  EXPECT_EQ(emulator_.Execute(cpu_, fx_, bus_).kind, Kind::kDone);
  EXPECT_EQ(bus_.Word(kData, 4), 0x04030201u);
  EXPECT_EQ(cpu_.rip, kBase + 0x1004);
}

TEST_F(EmulatorTest, InstructionAtTheEndOfAPageNeedsNoOther) {
  cpu_.rip = kBase + 0xffe;
  bus_.PageAt(kBase + 0x1000).present = false;
  bus_.SetBytes(cpu_.rip, std::vector<uint8_t>{0x89, 0x03});
  cpu_.gpr[kRbx] = kData;
  EXPECT_EQ(emulator_.Execute(cpu_, fx_, bus_).kind, Kind::kDone);
}

TEST_F(EmulatorTest, FetchOfTheSecondPageMayFault) {
  cpu_.rip = kBase + 0xffe;
  bus_.PageAt(kBase + 0x1000).present = false;
  bus_.SetBytes(cpu_.rip, std::vector<uint8_t>{0xc7, 0x03});
  const EmulateOutcome outcome = emulator_.Execute(cpu_, fx_, bus_);
  EXPECT_EQ(outcome.kind, Kind::kException);
  EXPECT_EQ(outcome.exception, Exception::PageFault(0, Gva(kBase + 0x1000)));
  EXPECT_EQ(bus_.log().back().access.type, AccessType::kFetch);
}

TEST_F(EmulatorTest, FetchBeyondTheCodeSegmentIsRefused) {
  Use32Bit();
  cpu_.cs.limit = kBase + 2;
  ExpectFault(Execute({0xc7, 0x03, 1, 2, 3, 4}),
              Exception::GeneralProtection());
}

TEST_F(EmulatorTest, UnknownInstructionIsReportedWithItsText) {
  const EmulateOutcome outcome = Execute({0x0f, 0xae, 0x03});
  EXPECT_EQ(outcome.kind, Kind::kUnknown);
  EXPECT_EQ(cpu_, before_);
  EXPECT_EQ(emulator_.Describe(outcome.instruction), "0f ae 03 fxsave [rbx]");
}

TEST_F(EmulatorTest, BytesThatAreNoInstructionAreUnknown) {
  const EmulateOutcome outcome = Execute({0x06});
  EXPECT_EQ(outcome.kind, Kind::kUnknown);
  EXPECT_EQ(outcome.instruction.length, 0);
}

TEST_F(EmulatorTest, ResumeFlagIsClearAfterAnInstruction) {
  cpu_.rflags |= rflags::kRf;
  cpu_.gpr[kRbx] = kData;
  EXPECT_EQ(Execute({0x89, 0x03}).kind, Kind::kDone);
  EXPECT_EQ(cpu_.rflags & rflags::kRf, 0u);
}

TEST_F(EmulatorTest, SingleStepIsDueWithTheTrapFlag) {
  cpu_.gpr[kRbx] = kData;
  EXPECT_EQ(Execute({0x89, 0x03}).single_step, SingleStep::kNone);
  cpu_.rip = kBase;
  cpu_.rflags |= rflags::kTf;
  EXPECT_EQ(Execute({0x89, 0x03}).single_step, SingleStep::kDue);
}

// ---- Strings ----

TEST_F(EmulatorTest, LongRepeatComesInPieces) {
  cpu_.gpr[kRdi] = kData;
  cpu_.gpr[kRcx] = 100;
  cpu_.gpr[kRax] = 0xab;
  EXPECT_EQ(Execute({0xf3, 0xaa}).kind, Kind::kMore);
  EXPECT_EQ(cpu_.rip, kBase);
  EXPECT_EQ(cpu_.gpr[kRcx], 36u);
  EXPECT_EQ(cpu_.gpr[kRdi], kData + 64);
  EXPECT_EQ(Execute({0xf3, 0xaa}).kind, Kind::kDone);
  EXPECT_EQ(cpu_.rip, kBase + 2);
  EXPECT_EQ(cpu_.gpr[kRcx], 0u);
}

TEST_F(EmulatorTest, RepeatThatFaultsKeepsWhatIsDone) {
  bus_.PageAt(kData + 0x1000).writable = false;
  cpu_.gpr[kRdi] = kData + 0x1000 - 24;
  cpu_.gpr[kRcx] = 10;
  const EmulateOutcome outcome = Execute({0xf3, 0x48, 0xab});
  EXPECT_EQ(outcome.kind, Kind::kException);
  EXPECT_EQ(outcome.exception, Exception::PageFault(3, Gva(kData + 0x1000)));
  EXPECT_EQ(cpu_.rip, kBase);
  EXPECT_EQ(cpu_.gpr[kRcx], 7u);
  EXPECT_EQ(cpu_.gpr[kRdi], kData + 0x1000);
}

TEST_F(EmulatorTest, RepeatWithTheTrapFlagDoesOneElement) {
  cpu_.rflags |= rflags::kTf;
  cpu_.gpr[kRdi] = kData;
  cpu_.gpr[kRcx] = 3;
  const EmulateOutcome outcome = Execute({0xf3, 0xaa});
  EXPECT_EQ(outcome.kind, Kind::kMore);
  EXPECT_EQ(outcome.single_step, SingleStep::kDue);
  EXPECT_EQ(cpu_.gpr[kRcx], 2u);
}

TEST_F(EmulatorTest, RepeatedInputStoresWhatThePortGives) {
  cpu_.gpr[kRdi] = kData;
  cpu_.gpr[kRcx] = 3;
  cpu_.gpr[kRdx] = 0xffff01f0;
  bus_.input() = {0x1111, 0x2222, 0x3333};
  EXPECT_EQ(Execute({0xf3, 0x66, 0x6d}).kind, Kind::kDone);
  EXPECT_EQ(bus_.Word(kData, 6), 0x333322221111u);
  EXPECT_EQ(bus_.Count(Call::kIn), 3u);
  EXPECT_EQ(cpu_.gpr[kRdi], kData + 6);
}

TEST_F(EmulatorTest, InputIntoAReadOnlyPageDoesNotReadThePort) {
  bus_.PageAt(kData).writable = false;
  cpu_.gpr[kRdi] = kData;
  ExpectFault(Execute({0x6c}), Exception::PageFault(3, Gva(kData)));
  EXPECT_EQ(bus_.Count(Call::kIn), 0u);
}

TEST_F(EmulatorTest, RepeatedOutputWritesEachElement) {
  cpu_.gpr[kRsi] = kData;
  cpu_.gpr[kRcx] = 2;
  cpu_.gpr[kRdx] = 0x3f8;
  bus_.SetWord(kData, 2, 0x4241);
  EXPECT_EQ(Execute({0xf3, 0x6e}).kind, Kind::kDone);
  EXPECT_EQ(bus_.Count(Call::kOut), 2u);
  EXPECT_EQ(bus_.log().back().address, 0x3f8u);
  EXPECT_EQ(bus_.log().back().value, 0x42u);
}

TEST_F(EmulatorTest, PortInstructionsUseTheirRegister) {
  bus_.input() = {0x12345678};
  cpu_.gpr[kRax] = ~uint64_t{0};
  EXPECT_EQ(Execute({0x66, 0xe5, 0x60}).kind, Kind::kDone);
  EXPECT_EQ(cpu_.gpr[kRax], 0xffffffffffff5678u);
  cpu_.rip = kBase;
  cpu_.gpr[kRdx] = 0xcf8;
  EXPECT_EQ(Execute({0xef}).kind, Kind::kDone);
  EXPECT_EQ(bus_.log().back().address, 0xcf8u);
  EXPECT_EQ(bus_.log().back().bytes, 4u);
  EXPECT_EQ(bus_.log().back().value, 0xffff5678u);
}

// ---- SSE that is off, SMSW ----

TEST_F(EmulatorTest, XmmMovesNeedSse) {
  cpu_.gpr[kRbx] = kData;
  cpu_.cr4 &= ~cr4::kOsfxsr;
  ExpectFault(Execute({0x0f, 0x11, 0x03}), Exception::InvalidOpcode());
  cpu_.cr4 |= cr4::kOsfxsr;
  cpu_.cr0 |= cr0::kTs;
  ExpectFault(Execute({0x0f, 0x11, 0x03}), Exception::DeviceNotAvailable());
}

TEST_F(EmulatorTest, SmswGivesTheGuestsCr0) {
  cpu_.gpr[kRbx] = kData;
  EXPECT_EQ(Execute({0x0f, 0x01, 0x23}).kind, Kind::kDone);
  EXPECT_EQ(bus_.Word(kData, 8), cpu_.cr0 & 0xffff);
  cpu_.rip = kBase;
  EXPECT_EQ(Execute({0x0f, 0x01, 0xe0}).kind, Kind::kDone);
  EXPECT_EQ(cpu_.gpr[kRax], cpu_.cr0);
}

TEST_F(EmulatorTest, SupervisorPushOntoAReadOnlyPageFaultsAndKeepsRsp) {
  bus_.PageAt(kStack - 8).writable = false;
  ExpectFault(Execute({0x50}), Exception::PageFault(3, Gva(kStack - 8)));
}

}  // namespace
}  // namespace hypervisor
