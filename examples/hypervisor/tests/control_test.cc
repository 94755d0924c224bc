// Exits for control registers, debug registers and INVLPG, by the instruction's
// bytes.

#include "emulate/control.h"

#include <cstdint>
#include <initializer_list>
#include <vector>

#include "emulate/cpu_state.h"
#include "emulate/decoder.h"
#include "gtest/gtest.h"
#include "tests/fake_bus.h"

namespace hypervisor {
namespace {

constexpr uint64_t kBase = 0x100000;
constexpr uint64_t kData = kBase + 0x1000;

class ControlTest : public testing::Test {
 protected:
  ControlTest() {
    cpu_.cr0 = cr0::kPe | cr0::kPg | cr0::kEt | cr0::kTs;
    cpu_.rip = kBase;
    cpu_.cs = {.attributes = 0xc9b, .limit = 0xffffffff};
    cpu_.ss = cpu_.ds = cpu_.es = cpu_.fs =
        cpu_.gs = {.attributes = 0xc93, .limit = 0xffffffff};
  }
  void Use64Bit() {
    cpu_.efer = shadowmmu::efer::kLma | shadowmmu::efer::kLme;
    cpu_.cs.attributes = 0xa9b;
  }
  ControlAccess Decode(std::initializer_list<uint8_t> code) {
    bus_.SetBytes(kBase, std::vector<uint8_t>(code));
    const CpuState before = cpu_;
    const ControlOutcome outcome = DecodeControl(decoder_, cpu_, bus_);
    EXPECT_TRUE(outcome.result.ok());
    EXPECT_EQ(cpu_, before);
    EXPECT_EQ(outcome.access.length, code.size());
    return outcome.access;
  }

  Decoder decoder_;
  FakeBus bus_{kBase, 0x2000};
  CpuState cpu_;
};

TEST_F(ControlTest, WriteNamesTheRegisterAndTheValue) {
  cpu_.gpr[kRcx] = 0x80000011;
  const ControlAccess access = Decode({0x0f, 0x22, 0xc1});
  EXPECT_EQ(access.kind, ControlKind::kWriteControl);
  EXPECT_EQ(access.number, 0);
  EXPECT_EQ(access.value, 0x80000011u);
}

TEST_F(ControlTest, WriteIs64BitsWideIn64BitModeOnly) {
  cpu_.gpr[kRax] = 0xffff000012345000;
  EXPECT_EQ(Decode({0x0f, 0x22, 0xd8}).value, 0x12345000u);
  Use64Bit();
  const ControlAccess access = Decode({0x0f, 0x22, 0xd8});
  EXPECT_EQ(access.number, 3);
  EXPECT_EQ(access.value, 0xffff000012345000u);
}

TEST_F(ControlTest, RexReachesTheUpperRegisters) {
  Use64Bit();
  cpu_.gpr[9] = 7;
  const ControlAccess access = Decode({0x45, 0x0f, 0x22, 0xc1});
  EXPECT_EQ(access.kind, ControlKind::kWriteControl);
  EXPECT_EQ(access.number, 8);
  EXPECT_EQ(access.value, 7u);
}

TEST_F(ControlTest, LockIsAnotherWayToCr8) {
  const ControlAccess access = Decode({0xf0, 0x0f, 0x20, 0xc0});
  EXPECT_EQ(access.kind, ControlKind::kReadControl);
  EXPECT_EQ(access.number, 8);
}

TEST_F(ControlTest, ReadEndsWithTheValueInTheRegister) {
  cpu_.gpr[kRdx] = ~uint64_t{0};
  cpu_.rflags |= rflags::kRf;
  const ControlAccess access = Decode({0x0f, 0x20, 0xda});
  EXPECT_EQ(access.kind, ControlKind::kReadControl);
  EXPECT_EQ(access.number, 3);
  FinishRead(cpu_, access, 0x1234);
  EXPECT_EQ(cpu_.gpr[kRdx], 0x1234u);
  EXPECT_EQ(cpu_.rip, kBase + 3);
  EXPECT_EQ(cpu_.rflags & rflags::kRf, 0u);
}

TEST_F(ControlTest, DebugRegistersBothWays) {
  cpu_.gpr[kRax] = 0x402;
  const ControlAccess write = Decode({0x0f, 0x23, 0xf8});
  EXPECT_EQ(write.kind, ControlKind::kWriteDebug);
  EXPECT_EQ(write.number, 7);
  EXPECT_EQ(write.value, 0x402u);
  const ControlAccess read = Decode({0x0f, 0x21, 0xf3});
  EXPECT_EQ(read.kind, ControlKind::kReadDebug);
  EXPECT_EQ(read.number, 6);
  EXPECT_EQ(read.gpr, kRbx);
}

TEST_F(ControlTest, CltsClearsTs) {
  const ControlAccess access = Decode({0x0f, 0x06});
  EXPECT_EQ(access.kind, ControlKind::kClts);
  EXPECT_EQ(access.value, cpu_.cr0 & ~cr0::kTs);
}

TEST_F(ControlTest, LmswCannotClearPe) {
  cpu_.gpr[kRax] = 0xfff0 | cr0::kMp;
  const ControlAccess access = Decode({0x0f, 0x01, 0xf0});
  EXPECT_EQ(access.kind, ControlKind::kLmsw);
  EXPECT_EQ(access.value, cr0::kPe | cr0::kPg | cr0::kEt | cr0::kMp);
}

TEST_F(ControlTest, LmswReadsItsMemoryOperand) {
  cpu_.cr0 = cr0::kEt;
  cpu_.gpr[kRbx] = kData;
  bus_.SetWord(kData, 2, cr0::kPe | cr0::kTs);
  EXPECT_EQ(Decode({0x0f, 0x01, 0x33}).value, cr0::kEt | cr0::kPe | cr0::kTs);
  bus_.PageAt(kData).present = false;
  EXPECT_EQ(DecodeControl(decoder_, cpu_, bus_).result.kind,
            BusResult::Kind::kException);
}

TEST_F(ControlTest, SmswIsLeftToTheEmulator) {
  EXPECT_EQ(Decode({0x0f, 0x01, 0xe0}).kind, ControlKind::kSmsw);
}

TEST_F(ControlTest, InvlpgGivesALinearAddress) {
  cpu_.gs.base = 0x1000;
  cpu_.gpr[kRax] = 0xfffff800;
  EXPECT_EQ(Decode({0x0f, 0x01, 0x38}).address, shadowmmu::Gva(0xfffff800));
  const ControlAccess wrapped = Decode({0x65, 0x0f, 0x01, 0x38});
  EXPECT_EQ(wrapped.kind, ControlKind::kInvlpg);
  EXPECT_EQ(wrapped.address, shadowmmu::Gva(0x800));
}

TEST_F(ControlTest, InvlpgRelativeToRip) {
  Use64Bit();
  EXPECT_EQ(Decode({0x0f, 0x01, 0x3d, 0x10, 0, 0, 0}).address,
            shadowmmu::Gva(kBase + 7 + 0x10));
}

TEST_F(ControlTest, InvlpgOfWhatIsNotCanonicalIsNoFault) {
  Use64Bit();
  cpu_.gpr[kRax] = uint64_t{1} << 47;
  EXPECT_EQ(Decode({0x0f, 0x01, 0x38}).address,
            shadowmmu::Gva(uint64_t{1} << 47));
}

TEST_F(ControlTest, AnythingElseIsNone) {
  EXPECT_EQ(Decode({0x89, 0x03}).kind, ControlKind::kNone);
}

TEST_F(ControlTest, FetchMayFault) {
  bus_.PageAt(kBase).present = false;
  const ControlOutcome outcome = DecodeControl(decoder_, cpu_, bus_);
  EXPECT_EQ(outcome.result.kind, BusResult::Kind::kException);
  EXPECT_EQ(outcome.result.exception,
            Exception::PageFault(0, shadowmmu::Gva(kBase)));
}

}  // namespace
}  // namespace hypervisor
