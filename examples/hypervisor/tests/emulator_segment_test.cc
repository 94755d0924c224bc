// Segments, as the emulator applies them: bases, limits and types in protected
// mode, canonical addresses in 64-bit mode, real mode, and loads of their
// registers.

#include <cstdint>

#include "emulate/cpu_state.h"
#include "emulate/emulator.h"
#include "gtest/gtest.h"
#include "tests/emulator_fixture.h"
#include "tests/fake_bus.h"

namespace hypervisor {
namespace {

using Kind = EmulateOutcome::Kind;
using Call = FakeBus::Call;
using EmulatorSegmentTest = EmulatorTest;
using shadowmmu::Gva;
using shadowmmu::Implicit;

TEST_F(EmulatorSegmentTest, AddressesOf32BitCodeWrapAt4GiB) {
  Use32Bit();
  cpu_.gpr[kRbx] = 0xfffff000;
  // MOV [EBX + kData + 0x1000], EAX
  EXPECT_EQ(Execute({0x89, 0x83, 0x00, 0x30, 0x10, 0x00}).kind, Kind::kDone);
  EXPECT_EQ(bus_.log().back().address, kData);
}

TEST_F(EmulatorSegmentTest, SegmentBaseIsAdded) {
  Use32Bit();
  cpu_.gs.base = kData;
  EXPECT_EQ(Execute({0x65, 0xa3, 0x10, 0, 0, 0}).kind, Kind::kDone);
  EXPECT_EQ(bus_.log().back().address, kData + 0x10);
}

TEST_F(EmulatorSegmentTest, WriteIntoAReadOnlySegmentIsRefused) {
  Use32Bit();
  cpu_.ds.attributes &= ~Segment::kWritable;
  cpu_.gpr[kRbx] = kData;
  ExpectFault(Execute({0x89, 0x03}), Exception::GeneralProtection());
}

TEST_F(EmulatorSegmentTest, NullSegmentIsRefused) {
  Use32Bit();
  cpu_.es = Segment{};
  cpu_.gpr[kRdi] = kData;
  ExpectFault(Execute({0xaa}), Exception::GeneralProtection());
}

TEST_F(EmulatorSegmentTest, ExpandDownSegmentBeginsAboveItsLimit) {
  Use32Bit();
  cpu_.ds.attributes |= Segment::kExpandDown;
  cpu_.ds.limit = kData + 0xff;
  cpu_.gpr[kRbx] = kData + 0xff;
  ExpectFault(Execute({0x89, 0x03}), Exception::GeneralProtection());
  cpu_.gpr[kRbx] = kData + 0x100;
  EXPECT_EQ(Execute({0x89, 0x03}).kind, Kind::kDone);
}

TEST_F(EmulatorSegmentTest, NonCanonicalStackIsAStackFault) {
  cpu_.gpr[kRbp] = uint64_t{1} << 47;
  ExpectFault(Execute({0x89, 0x45, 0x00}), Exception::Stack());
  cpu_.gpr[kRbx] = uint64_t{1} << 47;
  ExpectFault(Execute({0x89, 0x03}), Exception::GeneralProtection());
}

TEST_F(EmulatorSegmentTest, FiveLevelPagingHasWiderAddresses) {
  cpu_.cr4 |= shadowmmu::cr4::kLa57;
  cpu_.gpr[kRbx] = uint64_t{1} << 47;
  ExpectFault(Execute({0x8b, 0x03}),
              Exception::PageFault(0, Gva(uint64_t{1} << 47)));
}

TEST_F(EmulatorSegmentTest, RealModeStoresAndLoadsSegments) {
  UseRealMode();
  cpu_.gpr[kRbx] = 0x2000;
  bus_.SetWord(kData, 2, 0x1234);
  EXPECT_EQ(Execute({0x8e, 0x07}).kind, Kind::kDone);  // MOV ES, [BX]
  EXPECT_EQ(cpu_.es.selector, 0x1234);
  EXPECT_EQ(cpu_.es.base, 0x12340u);
  EXPECT_EQ(cpu_.es.limit, 0xffffu);
}

TEST_F(EmulatorSegmentTest, RealModeOffsetBeyond64KiBIsRefused) {
  UseRealMode();
  cpu_.gpr[kRbx] = 0x10000;
  // MOV [EBX], AX with a 32-bit address
  ExpectFault(Execute({0x67, 0x89, 0x03}), Exception::GeneralProtection());
}

TEST_F(EmulatorSegmentTest, LoadOfTheStackSegmentBeginsAShadow) {
  UseRealMode();
  cpu_.gpr[kRbx] = 0x2000;
  EXPECT_EQ(Execute({0x8e, 0x17}).shadow, InterruptShadow::kBegins);
  cpu_.rip = 0;
  cpu_.ss.base = kBase;
  EXPECT_EQ(Execute({0x17}).shadow, InterruptShadow::kBegins);  // POP SS
  cpu_.rip = 0;
  EXPECT_EQ(Execute({0x07}).shadow, InterruptShadow::kNone);  // POP ES
}

TEST_F(EmulatorSegmentTest, ProtectedModeLoadsADescriptorAndMarksIt) {
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

TEST_F(EmulatorSegmentTest, ProtectedModeRefusesDescriptors) {
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

TEST_F(EmulatorSegmentTest, CallIsRefusedBeforeItPushes) {
  Use32Bit();
  cpu_.cs.limit = kBase + 0xfff;
  ExpectFault(Execute({0xe8, 0x00, 0x10, 0x00, 0x00}),
              Exception::GeneralProtection());
  EXPECT_EQ(bus_.Count(Call::kWrite), 0u);
}

TEST_F(EmulatorSegmentTest, TaskRegisterIsLoadedByMemoryAndTheTaskIsBusy) {
  cpu_.gdtr = {.limit = 0x3f, .base = kData};
  bus_.SetWord(kData + 0x10, 8, 0x12008934'56780067);  // a free TSS
  bus_.SetWord(kData + 0x18, 8, 0x1);                  // its base above 4 GiB
  bus_.SetWord(kData + 0x800, 2, 0x10);
  cpu_.gpr[kRbx] = kData + 0x800;
  EXPECT_EQ(Execute({0x0f, 0x00, 0x1b}).kind, Kind::kDone);  // LTR [rbx]
  EXPECT_EQ(cpu_.tr.selector, 0x10);
  EXPECT_EQ(cpu_.tr.base, 0x1'12345678u);
  EXPECT_EQ(cpu_.tr.attributes, 0x8b);
  EXPECT_EQ(bus_.Word(kData + 0x15, 1), 0x8bu);
  // Busy now.
  cpu_.rip = kBase;
  ExpectFault(Execute({0x0f, 0x00, 0x1b}), Exception::GeneralProtection(0x10));
}

TEST_F(EmulatorSegmentTest, LdtIsLoadedByMemory) {
  cpu_.gdtr = {.limit = 0x3f, .base = kData};
  bus_.SetWord(kData + 0x10, 8, 0x00008200'00000fff);
  bus_.SetWord(kData + 0x800, 2, 0x10);
  cpu_.gpr[kRbx] = kData + 0x800;
  EXPECT_EQ(Execute({0x0f, 0x00, 0x13}).kind, Kind::kDone);  // LLDT [rbx]
  EXPECT_EQ(cpu_.ldtr.limit, 0xfffu);
  bus_.SetWord(kData + 0x800, 2, 0);
  cpu_.rip = kBase;
  EXPECT_EQ(Execute({0x0f, 0x00, 0x13}).kind, Kind::kDone);
  EXPECT_EQ(cpu_.ldtr.attributes, 0);
  cpu_.rip = kBase;
  cpu_.cpl = 3;
  ExpectFault(Execute({0x0f, 0x00, 0x13}), Exception::GeneralProtection());
}

TEST_F(EmulatorSegmentTest, TablesAreLoadedByMemory) {
  bus_.SetWord(kData, 2, 0x4321);
  bus_.SetWord(kData + 2, 8, 0x12345678abcd);
  cpu_.gpr[kRbx] = kData;
  EXPECT_EQ(Execute({0x0f, 0x01, 0x13}).kind, Kind::kDone);  // LGDT [rbx]
  EXPECT_EQ(cpu_.gdtr.limit, 0x4321u);
  EXPECT_EQ(cpu_.gdtr.base, 0x12345678abcdu);
  bus_.SetWord(kData + 2, 8, 0x1111111111111111);
  cpu_.rip = kBase;
  ExpectFault(Execute({0x0f, 0x01, 0x1b}), Exception::GeneralProtection());
}

TEST_F(EmulatorSegmentTest, TablesAndSelectorsAreStored) {
  cpu_.gdtr = {.limit = 0x3f, .base = 0xffff800012345678};
  cpu_.tr.selector = 0x28;
  cpu_.gpr[kRbx] = kData;
  EXPECT_EQ(Execute({0x0f, 0x01, 0x03}).kind, Kind::kDone);  // SGDT [rbx]
  EXPECT_EQ(bus_.Word(kData, 2), 0x3fu);
  EXPECT_EQ(bus_.Word(kData + 2, 8), 0xffff800012345678u);
  cpu_.rip = kBase;
  EXPECT_EQ(Execute({0x0f, 0x00, 0x0b}).kind, Kind::kDone);  // STR [rbx]
  EXPECT_EQ(bus_.Word(kData, 4), 0x56780028u);
  cpu_.rip = kBase;
  cpu_.cpl = 3;
  cpu_.cr4 |= cr4::kUmip;
  ExpectFault(Execute({0x0f, 0x01, 0x0b}), Exception::GeneralProtection());
  ExpectFault(Execute({0x0f, 0x00, 0x03}), Exception::GeneralProtection());
}

TEST_F(EmulatorSegmentTest, FarJumpTakesItsPointerFromMemory) {
  cpu_.gdtr = {.limit = 0x3f, .base = kData};
  bus_.SetWord(kData + 0x10, 8, 0x00af9a000000ffff);
  bus_.SetWord(kData + 0x800, 8, kBase + 0x123);
  bus_.SetWord(kData + 0x808, 2, 0x10);
  cpu_.gpr[kRbx] = kData + 0x800;
  EXPECT_EQ(Execute({0x48, 0xff, 0x2b}).kind, Kind::kDone);  // LJMP [rbx]
  EXPECT_EQ(cpu_.rip, kBase + 0x123);
  EXPECT_EQ(cpu_.cs.selector, 0x10);
  EXPECT_TRUE(cpu_.cs.Has(Segment::kLong | Segment::kAccessed));
  cpu_.rip = kBase;
  bus_.SetWord(kData + 0x808, 2, 0);
  ExpectFault(Execute({0x48, 0xff, 0x2b}), Exception::GeneralProtection());
}

TEST_F(EmulatorSegmentTest, QuotientThatDoesNotFitIsADivideError) {
  const Exception error = {ExceptionVector::kDivideError, std::nullopt, {}};
  cpu_.gpr[kRbx] = kData;
  bus_.SetWord(kData, 8, 0);
  ExpectFault(Execute({0x48, 0xf7, 0x33}), error);  // DIV [rbx]
  ExpectFault(Execute({0x48, 0xf7, 0x3b}), error);  // IDIV [rbx]
  bus_.SetWord(kData, 8, 2);
  cpu_.gpr[kRdx] = 2;
  ExpectFault(Execute({0x48, 0xf7, 0x33}), error);
  bus_.SetWord(kData, 8, ~uint64_t{0});
  cpu_.gpr[kRdx] = uint64_t{1} << 63;
  cpu_.gpr[kRax] = 0;
  ExpectFault(Execute({0x48, 0xf7, 0x3b}), error);
}

}  // namespace
}  // namespace hypervisor
