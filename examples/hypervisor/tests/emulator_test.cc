// The emulator on a bus that says no, and in modes that an ordinary process
// cannot be in: what the comparison with a real CPU cannot show.

#include "emulate/emulator.h"

#include <array>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <vector>

#include "emulate/cpu_state.h"
#include "gtest/gtest.h"
#include "tests/fake_bus.h"

namespace hypervisor {
namespace {

using Kind = EmulateOutcome::Kind;
using Call = FakeBus::Call;
using shadowmmu::AccessType;
using shadowmmu::Gva;
using shadowmmu::Implicit;
using shadowmmu::Privilege;

constexpr uint64_t kBase = 0x100000;
constexpr uint64_t kData = kBase + 0x2000;
constexpr uint64_t kStack = kBase + 0x6000;

Segment Flat(uint16_t attributes) {
  return {.selector = 8, .attributes = attributes, .limit = 0xffffffff};
}

class EmulatorTest : public testing::Test {
 protected:
  EmulatorTest() {
    // A kernel in 64-bit mode.
    cpu_.cr0 = cr0::kPe | cr0::kPg | cr0::kEt;
    cpu_.cr4 = shadowmmu::cr4::kPae | cr4::kOsfxsr;
    cpu_.efer = shadowmmu::efer::kLme | shadowmmu::efer::kLma;
    cpu_.rip = kBase;
    cpu_.gpr[kRsp] = kStack;
    cpu_.cs = Flat(0x29b | Segment::kGranularity);
    cpu_.cs.attributes |= Segment::kLong;
    cpu_.cs.attributes &= ~Segment::kDefault;
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
    EXPECT_EQ(outcome.kind, Kind::kException);
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

// ---- Segments ----

TEST_F(EmulatorTest, AddressesOf32BitCodeWrapAt4GiB) {
  Use32Bit();
  cpu_.gpr[kRbx] = 0xfffff000;
  // MOV [EBX + kData + 0x1000], EAX
  EXPECT_EQ(Execute({0x89, 0x83, 0x00, 0x30, 0x10, 0x00}).kind, Kind::kDone);
  EXPECT_EQ(bus_.log().back().address, kData);
}

TEST_F(EmulatorTest, SegmentBaseIsAdded) {
  Use32Bit();
  cpu_.gs.base = kData;
  EXPECT_EQ(Execute({0x65, 0xa3, 0x10, 0, 0, 0}).kind, Kind::kDone);
  EXPECT_EQ(bus_.log().back().address, kData + 0x10);
}

TEST_F(EmulatorTest, WriteIntoAReadOnlySegmentIsRefused) {
  Use32Bit();
  cpu_.ds.attributes &= ~Segment::kWritable;
  cpu_.gpr[kRbx] = kData;
  ExpectFault(Execute({0x89, 0x03}), Exception::GeneralProtection());
}

TEST_F(EmulatorTest, NullSegmentIsRefused) {
  Use32Bit();
  cpu_.es = Segment{};
  cpu_.gpr[kRdi] = kData;
  ExpectFault(Execute({0xaa}), Exception::GeneralProtection());
}

TEST_F(EmulatorTest, ExpandDownSegmentBeginsAboveItsLimit) {
  Use32Bit();
  cpu_.ds.attributes |= Segment::kExpandDown;
  cpu_.ds.limit = kData + 0xff;
  cpu_.gpr[kRbx] = kData + 0xff;
  ExpectFault(Execute({0x89, 0x03}), Exception::GeneralProtection());
  cpu_.gpr[kRbx] = kData + 0x100;
  EXPECT_EQ(Execute({0x89, 0x03}).kind, Kind::kDone);
}

TEST_F(EmulatorTest, NonCanonicalStackIsAStackFault) {
  cpu_.gpr[kRbp] = uint64_t{1} << 47;
  ExpectFault(Execute({0x89, 0x45, 0x00}), Exception::Stack());
  cpu_.gpr[kRbx] = uint64_t{1} << 47;
  ExpectFault(Execute({0x89, 0x03}), Exception::GeneralProtection());
}

TEST_F(EmulatorTest, FiveLevelPagingHasWiderAddresses) {
  cpu_.cr4 |= shadowmmu::cr4::kLa57;
  cpu_.gpr[kRbx] = uint64_t{1} << 47;
  ExpectFault(Execute({0x8b, 0x03}),
              Exception::PageFault(0, Gva(uint64_t{1} << 47)));
}

TEST_F(EmulatorTest, RealModeStoresAndLoadsSegments) {
  UseRealMode();
  cpu_.gpr[kRbx] = 0x2000;
  bus_.SetWord(kData, 2, 0x1234);
  EXPECT_EQ(Execute({0x8e, 0x07}).kind, Kind::kDone);  // MOV ES, [BX]
  EXPECT_EQ(cpu_.es.selector, 0x1234);
  EXPECT_EQ(cpu_.es.base, 0x12340u);
  EXPECT_EQ(cpu_.es.limit, 0xffffu);
}

TEST_F(EmulatorTest, RealModeOffsetBeyond64KiBIsRefused) {
  UseRealMode();
  cpu_.gpr[kRbx] = 0x10000;
  // MOV [EBX], AX with a 32-bit address
  ExpectFault(Execute({0x67, 0x89, 0x03}), Exception::GeneralProtection());
}

TEST_F(EmulatorTest, LoadOfTheStackSegmentBeginsAShadow) {
  UseRealMode();
  cpu_.gpr[kRbx] = 0x2000;
  EXPECT_EQ(Execute({0x8e, 0x17}).shadow, InterruptShadow::kBegins);
  cpu_.rip = 0;
  cpu_.ss.base = kBase;
  EXPECT_EQ(Execute({0x17}).shadow, InterruptShadow::kBegins);  // POP SS
  cpu_.rip = 0;
  EXPECT_EQ(Execute({0x07}).shadow, InterruptShadow::kNone);  // POP ES
}

TEST_F(EmulatorTest, ProtectedModeLoadsADescriptorAndMarksIt) {
  Use32Bit();
  cpu_.gdtr = {.limit = 0x2f, .base = kData};
  // At 0x10: data, DPL 0, base 0x12345678, limit 0xfffff pages, not accessed.
  bus_.SetWord(kData + 0x10, 8, 0x12cf92345678ffff);
  bus_.SetWord(kData + 0x800, 2, 0x10);
  cpu_.gpr[kRbx] = kData + 0x800;
  EXPECT_EQ(Execute({0x8e, 0x03}).kind, Kind::kDone);
  EXPECT_EQ(cpu_.es.selector, 0x10);
  EXPECT_EQ(cpu_.es.base, 0x12345678u);
  EXPECT_EQ(cpu_.es.limit, 0xffffffffu);
  EXPECT_EQ(cpu_.es.attributes, 0xc93);
  EXPECT_EQ(bus_.Word(kData + 0x15, 1), 0x93u);
  EXPECT_EQ(bus_.log().back().access.implicit, Implicit::kYes);
}

TEST_F(EmulatorTest, ProtectedModeRefusesDescriptors) {
  Use32Bit();
  cpu_.gdtr = {.limit = 0x2f, .base = kData};
  bus_.SetWord(kData + 0x10, 8, 0x00cf9a000000ffff);  // code, for SS
  bus_.SetWord(kData + 0x18, 8, 0x00cf12000000ffff);  // data, not present
  cpu_.gpr[kRbx] = kData + 0x800;
  bus_.SetWord(kData + 0x800, 2, 0x10);
  ExpectFault(Execute({0x8e, 0x13}), Exception::GeneralProtection(0x10));
  bus_.SetWord(kData + 0x800, 2, 0x18);
  ExpectFault(Execute({0x8e, 0x13}), Exception::Stack(0x18));
  ExpectFault(Execute({0x8e, 0x03}), Exception::SegmentNotPresent(0x18));
  bus_.SetWord(kData + 0x800, 2, 0x30);  // beyond the GDT
  ExpectFault(Execute({0x8e, 0x03}), Exception::GeneralProtection(0x30));
  bus_.SetWord(kData + 0x800, 2, 0);
  ExpectFault(Execute({0x8e, 0x13}), Exception::GeneralProtection());
  EXPECT_EQ(Execute({0x8e, 0x03}).kind, Kind::kDone);
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

TEST_F(EmulatorTest, CallIsRefusedBeforeItPushes) {
  Use32Bit();
  cpu_.cs.limit = kBase + 0xfff;
  ExpectFault(Execute({0xe8, 0x00, 0x10, 0x00, 0x00}),
              Exception::GeneralProtection());
  EXPECT_EQ(bus_.Count(Call::kWrite), 0u);
}

TEST_F(EmulatorTest, SupervisorPushOntoAReadOnlyPageFaultsAndKeepsRsp) {
  bus_.PageAt(kStack - 8).writable = false;
  ExpectFault(Execute({0x50}), Exception::PageFault(3, Gva(kStack - 8)));
}

}  // namespace
}  // namespace hypervisor
