// Page tables where no slot is, with MmuConfig::absent_tables as it is and as
// kReadAsOnes: what an access through one comes to.

#include <gtest/gtest.h>

#include <cstdint>

#include "tests/harness/small_vm.h"
#include "tests/mmu/every_mode.h"

namespace shadowmmu::testing {
namespace {

using Kind = FaultOutcome::Kind;

constexpr uint64_t kAll = gpte::kWritable | gpte::kUser;
constexpr Gva kGva{0x5000};
constexpr Gfn kAbsent{0x4'0000};
// What an entry of 4 bytes that is all ones leads to.
constexpr Gfn kLast{0xf'ffff};
constexpr uint32_t kOfOnes = pf_error::kPresent | pf_error::kReserved;

// A guest one of whose directory entries leads to a table that is not there.
class AbsentTable : public ::testing::Test {
 protected:
  explicit AbsentTable(AbsentTables absent = AbsentTables::kReadAsOnes)
      : vm_(SmallVm::Options{.absent_tables = absent}) {
    vm_.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = 4096});
    cpu_ = &vm_.AddVcpu();
  }
  ~AbsentTable() override { EXPECT_EQ(vm_.Violations(), ""); }

  void Use(GuestMode mode) {
    tables_ = &vm_.UseTables(*cpu_, {Gfn(16), 64}, mode);
    ASSERT_TRUE(tables_->Map(kGva, Gpa(0x9000), Level::k4K, kAll).ok());
    ASSERT_TRUE(tables_->SetTable(kGva, Level::k2M, kAbsent).ok());
  }
  void ExpectPageFault(const Access& access, uint32_t error) {
    const TouchResult touched = cpu_->Touch(kGva, access);
    ASSERT_TRUE(touched.EndedAs(Kind::kGuestFault)) << touched;
    EXPECT_EQ(touched.outcome.guest_fault.error_code, error);
    EXPECT_EQ(touched.outcome.guest_fault.address, kGva);
    const FaultOutcome translated = cpu_->mmu().Translate(kGva, access).outcome;
    EXPECT_EQ(translated.guest_fault.error_code, error);
  }
  FaultOutcome Ends(const Access& access) {
    const TouchResult touched = cpu_->Touch(kGva, access);
    EXPECT_FALSE(touched.hit());
    return touched.outcome;
  }

  SmallVm vm_;
  GuestVcpu* cpu_ = nullptr;
  GuestTableBuilder* tables_ = nullptr;
};

class AbsentTableInLongEntries
    : public AbsentTable,
      public ::testing::WithParamInterface<GuestMode> {
 protected:
  AbsentTableInLongEntries() { Use(GetParam()); }
};
INSTANTIATE_TEST_SUITE_P(Modes, AbsentTableInLongEntries,
                         ::testing::Values(GuestMode::kPae,
                                           GuestMode::kFourLevel,
                                           GuestMode::kFiveLevel),
                         NameOfMode);

TEST_P(AbsentTableInLongEntries, HasReservedBits) {
  ExpectPageFault(Read(), kOfOnes);
  ExpectPageFault(Write(), kOfOnes | pf_error::kWrite);
  ExpectPageFault(Read(Privilege::kUser), kOfOnes | pf_error::kUser);
  ExpectPageFault(Fetch(), kOfOnes | pf_error::kFetch);
}

TEST_P(AbsentTableInLongEntries, IsATableOnceASlotIsThere) {
  ExpectPageFault(Read(), kOfOnes);
  vm_.AddSlot({.id = SlotId{1}, .base = kAbsent, .pages = 1});
  ASSERT_TRUE(tables_->Map(kGva, Gpa(0x9000), Level::k4K, kAll).ok());
  EXPECT_TRUE(cpu_->Touch(kGva, Write()).hit());
  vm_.DeleteSlot(AddressSpace::kNormal, SlotId{1});
  ExpectPageFault(Read(), kOfOnes);
}

TEST_F(AbsentTable, OfFourBytesLeadsToTheLastPage) {
  Use(GuestMode::kTwoLevel);
  const FaultOutcome outcome = Ends(Write());
  EXPECT_EQ(outcome.kind, Kind::kEmulate);
  EXPECT_EQ(outcome.emulate_reason, EmulateReason::kNoSlot);
  EXPECT_EQ(outcome.gpa, ToGpa(kLast) + PageOffset(kGva));
  EXPECT_EQ(cpu_->mmu().Translate(kGva, Write()).gpa, outcome.gpa);
}

TEST_F(AbsentTable, ThatLeadsBackIntoASlotHasNoShadow) {
  Use(GuestMode::kTwoLevel);
  vm_.AddSlot({.id = SlotId{1}, .base = kLast, .pages = 1});
  const FaultOutcome outcome = Ends(Read());
  EXPECT_EQ(outcome.kind, Kind::kMemoryFault);
  EXPECT_EQ(outcome.memory_fault_reason, MemoryFaultReason::kTableOutsideSlots);
  EXPECT_EQ(outcome.gpa, ToGpa(kAbsent) + 4 * (kGva.value() >> kPageShift));
  const Translation found = cpu_->mmu().Translate(kGva, Read());
  EXPECT_FALSE(found.gpa.has_value());
  EXPECT_EQ(found.outcome.kind, Kind::kMemoryFault);
}

// The directory itself, of 4-byte entries: one that is all ones maps a page of
// 4 MiB, and has reserved bits.
TEST_F(AbsentTable, CannotBeARoot) {
  PagingRegisters registers =
      RegistersFor(GuestMode::kTwoLevel, ToGpa(kAbsent));
  ASSERT_TRUE(cpu_->mmu().SetRegisters(registers).ok());
  EXPECT_EQ(cpu_->mmu().EnterGuest().kind, Kind::kMemoryFault);
  EXPECT_EQ(Ends(Read()).kind, Kind::kMemoryFault);
  const Translation found = cpu_->mmu().Translate(kGva, Read());
  EXPECT_EQ(found.outcome.guest_fault.error_code, kOfOnes);
}

TEST_F(AbsentTable, WithPaeMayBeADirectory) {
  Use(GuestMode::kPae);
  const PagingRegisters registers = cpu_->mmu().registers();
  const Pdptes pdptes = {ToGpa(kAbsent).value() | gpte::kPresent, 0, 0, 0};
  ASSERT_TRUE(cpu_->mmu().SetRegisters(registers, pdptes).ok());
  ExpectPageFault(Read(), kOfOnes);
}

TEST_F(AbsentTable, HoldsNoPdptesThatACpuTakes) {
  Use(GuestMode::kPae);
  const PagingRegisters before = cpu_->mmu().registers();
  EXPECT_EQ(cpu_->mmu().WriteCr3(ToGpa(kAbsent).value()).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(cpu_->mmu().registers(), before);
}

class AbsentTableAsItIs : public AbsentTable {
 protected:
  AbsentTableAsItIs() : AbsentTable(AbsentTables::kMemoryFault) {}
};

TEST_F(AbsentTableAsItIs, IsAMemoryFault) {
  Use(GuestMode::kFourLevel);
  const FaultOutcome outcome = Ends(Read());
  EXPECT_EQ(outcome.kind, Kind::kMemoryFault);
  EXPECT_EQ(outcome.memory_fault_reason, MemoryFaultReason::kTableOutsideSlots);
  EXPECT_EQ(outcome.gpa, ToGpa(kAbsent) + 8 * (kGva.value() >> kPageShift));
}

TEST_F(AbsentTableAsItIs, HoldsNoPdptes) {
  Use(GuestMode::kPae);
  EXPECT_EQ(cpu_->mmu().WriteCr3(ToGpa(kAbsent).value()).code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace shadowmmu::testing
