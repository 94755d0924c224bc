// Oracle: each of its rules against tables that are computed by hand: walking,
// faults, A and D, slots, in four-level paging. Other modes, and rights:
// oracle_modes_test.cc, oracle_rights_test.cc.

#include "tests/harness/oracle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/harness_test/oracle_vm.h"

namespace shadowmmu::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

using OracleTest = FourLevelVm;

// ---- Walking ----

TEST_F(OracleTest, FourLevelsLeadToThePageAndItsOffset) {
  const OracleResult result = Translate(kUserRead, kGva + 0xabc);
  EXPECT_EQ(result.kind, OracleResult::Kind::kTranslated);
  EXPECT_EQ(result.gpa, Gpa(0x5abc));
  EXPECT_EQ(result.level, Level::k4K);
  EXPECT_EQ(result.target, OracleTarget::kMemory);
  ASSERT_TRUE(result.slot.has_value());
  EXPECT_EQ(result.slot->id, SlotId{0});
  EXPECT_THAT(result.tables(), ElementsAre(Gfn(1), Gfn(2), Gfn(3), Gfn(4)));
  EXPECT_THAT(result.entries, ElementsAre(kPml4e, kPdpte, kPde, kPte));
}

TEST_F(OracleTest, PageSizeInAPdeOrPdpteMapsALargePage) {
  Put(kPde, 0x60'0000 | kP | kPs);
  EXPECT_EQ(Target(Read(), kGva + 0x56), Gpa(0x60'0000 + 0x3'4056));
  EXPECT_EQ(Translate(Read()).level, Level::k2M);
  Put(kPdpte, 0x8000'0000 | kP | kPs);
  EXPECT_EQ(Target(Read(), kGva + 0x56), Gpa(0x8000'0000 + 0x243'4056));
  EXPECT_EQ(Translate(Read()).level, Level::k1G);
  EXPECT_THAT(Translate(Read()).tables(), ElementsAre(Gfn(1), Gfn(2)));
}

TEST_F(OracleTest, Bit7OfAPteAndBit12OfALargeEntryArePatAndNotReserved) {
  Put(kPte, 0x5000 | kP | kPs);
  EXPECT_EQ(Target(Read()), Gpa(0x5000));
  Put(kPde, 0x60'0000 | kP | kPs | 0x1000);
  EXPECT_EQ(Target(Read()), Gpa(0x60'0000 + 0x3'4000));
}

TEST_F(OracleTest, LowBitsOfCr3AreNoPartOfTheRoot) {
  cpu_.registers.cr3 |= 0x18;
  EXPECT_EQ(Target(Read()), Gpa(0x5000));
}

TEST_F(OracleTest, PagingOffIsTheLow32BitsWithEveryRight) {
  cpu_ = {};
  const OracleResult result = Translate(kUserWrite, Gva(0x7'0000'5123));
  EXPECT_EQ(result.gpa, Gpa(0x5123));
  EXPECT_TRUE(result.writable && result.user && result.executable);
  EXPECT_THAT(result.tables(), IsEmpty());
  EXPECT_THAT(result.updates, IsEmpty());
}

TEST_F(OracleTest, AnAddressThatIsNotCanonicalIsGeneralProtectionZero) {
  for (Gva gva : {Gva(0x0000'8000'0000'0000), Gva(0xffff'0000'0000'0000),
                  Gva(0x8000'55b3'4243'4000)}) {
    const OracleResult result = Translate(kUserWrite, gva);
    EXPECT_EQ(result.kind, OracleResult::Kind::kGuestFault);
    EXPECT_EQ(result.fault.vector, GuestFault::Vector::kGeneralProtection);
    EXPECT_EQ(result.fault.error_code, 0u);
  }
  EXPECT_EQ(FaultCode(Read(), Gva(0xffff'8000'0000'0000)), 0u);
}

// ---- Faults ----

TEST_F(OracleTest, AnEntryThatIsNotPresentFaultsWithPClearAtEachLevel) {
  for (Gpa entry : {kPml4e, kPdpte, kPde, kPte}) {
    const uint64_t kept = *memory_.Read64(AddressSpace::kNormal, entry);
    // What else it holds does not matter, reserved bits included.
    Put(entry, (kept & ~kP) | kNx | (uint64_t{1} << 51));
    EXPECT_EQ(FaultCode(Read()), 0u);
    EXPECT_EQ(FaultCode(kUserRead), pf_error::kUser);
    EXPECT_EQ(FaultCode(kUserWrite), pf_error::kUser | pf_error::kWrite);
    EXPECT_EQ(FaultCode(kUserFetch), pf_error::kUser | pf_error::kFetch);
    Put(entry, kept);
  }
}

TEST_F(OracleTest, RightsAreTheIntersectionOfAllLevels) {
  for (Gpa entry : {kPml4e, kPdpte, kPde, kPte}) {
    const uint64_t kept = *memory_.Read64(AddressSpace::kNormal, entry);
    Put(entry, kept & ~kW);
    EXPECT_EQ(FaultCode(kUserWrite),
              pf_error::kPresent | pf_error::kUser | pf_error::kWrite);
    EXPECT_EQ(FaultCode(Write()), pf_error::kPresent | pf_error::kWrite);
    EXPECT_EQ(Target(kUserRead), Gpa(0x5000));
    EXPECT_FALSE(Translate(Read()).writable);

    Put(entry, kept & ~kU);
    EXPECT_EQ(FaultCode(kUserRead), pf_error::kPresent | pf_error::kUser);
    EXPECT_EQ(Target(Write()), Gpa(0x5000));
    EXPECT_FALSE(Translate(Read()).user);

    Put(entry, kept | kNx);
    EXPECT_EQ(FaultCode(Fetch()), pf_error::kPresent | pf_error::kFetch);
    EXPECT_EQ(Target(kUserWrite), Gpa(0x5000));
    EXPECT_FALSE(Translate(Read()).executable);
    Put(entry, kept);
  }
}

TEST_F(OracleTest, WithWpClearOnlyTheSupervisorWritesReadOnlyPages) {
  Put(kPte, 0x5000 | kP | kU);
  cpu_.registers.cr0 &= ~cr0::kWp;
  EXPECT_EQ(Target(Write()), Gpa(0x5000));
  EXPECT_EQ(FaultCode(kUserWrite),
            pf_error::kPresent | pf_error::kUser | pf_error::kWrite);
}

TEST_F(OracleTest, AnImplicitAccessIsASupervisorOneWhateverTheCpl) {
  Access implicit = kUserWrite;
  implicit.implicit = Implicit::kYes;
  Put(kPte, 0x5000 | kP | kW);
  EXPECT_EQ(Target(implicit), Gpa(0x5000));
  Put(kPte, 0x5000 | kP);
  EXPECT_EQ(FaultCode(implicit), pf_error::kPresent | pf_error::kWrite);
}

TEST_F(OracleTest, WithNxeClearNxIsReservedAndFetchesAreNotReported) {
  cpu_.registers.efer &= ~efer::kNxe;
  EXPECT_EQ(Target(kUserFetch), Gpa(0x5000));
  EXPECT_EQ(FaultCode(kUserFetch, kGva + kPageSize), pf_error::kUser);
  for (Gpa entry : {kPml4e, kPdpte, kPde, kPte}) {
    const uint64_t kept = *memory_.Read64(AddressSpace::kNormal, entry);
    Put(entry, kept | kNx);
    EXPECT_EQ(FaultCode(kUserFetch),
              pf_error::kPresent | pf_error::kReserved | pf_error::kUser);
    Put(entry, kept);
  }
}

struct ReservedCase {
  Gpa entry;
  uint64_t value;
};

TEST_F(OracleTest, AReservedBitFaultsAtItsEntryBeforeRights) {
  const uint64_t bit40 = uint64_t{1} << 40;  // MAXPHYADDR of this guest
  const uint64_t bit51 = uint64_t{1} << 51;
  const ReservedCase cases[] = {
      {kPml4e, 0x2000 | kP | bit40},
      {kPml4e, 0x2000 | kP | kPs},
      {kPdpte, 0x3000 | kP | bit51},
      {kPdpte, 0x8000'0000 | kP | kPs | (1u << 13)},
      {kPdpte, 0x8000'0000 | kP | kPs | (1u << 29)},
      {kPde, 0x4000 | kP | bit40},
      {kPde, 0x60'0000 | kP | kPs | (1u << 13)},
      {kPde, 0x60'0000 | kP | kPs | (1u << 20)},
      {kPte, 0x5000 | kP | bit40},
      {kPte, 0x5000 | kP | bit51},
  };
  for (const ReservedCase& bad : cases) {
    const uint64_t kept = *memory_.Read64(AddressSpace::kNormal, bad.entry);
    Put(bad.entry, bad.value);
    EXPECT_EQ(FaultCode(kUserWrite), pf_error::kPresent | pf_error::kReserved |
                                         pf_error::kUser | pf_error::kWrite)
        << bad.entry << std::hex << " " << bad.value;
    Put(bad.entry, kept);
  }
}

TEST_F(OracleTest, AReservedBitAboveWinsOverANotPresentEntryBelow) {
  Put(kPdpte, 0x3000 | kP | (uint64_t{1} << 45));
  Put(kPte, 0);
  EXPECT_EQ(FaultCode(Read()), pf_error::kPresent | pf_error::kReserved);
}

TEST_F(OracleTest, ANotPresentEntryAboveWinsOverAReservedBitBelow) {
  Put(kPdpte, 0x3000);
  Put(kPte, 0x5000 | kP | (uint64_t{1} << 45));
  EXPECT_EQ(FaultCode(Read()), 0u);
}

TEST_F(OracleTest, IgnoredBitsDoNotMatter) {
  const uint64_t ignored = (uint64_t{0x7ff} << 52) | (uint64_t{7} << 9);
  for (Gpa entry : {kPml4e, kPdpte, kPde, kPte}) {
    Put(entry, *memory_.Read64(AddressSpace::kNormal, entry) | ignored);
  }
  EXPECT_EQ(Target(kUserWrite), Gpa(0x5000));
}

TEST_F(OracleTest, AnAccessThatIsDeniedKnowsWhereItWouldHaveGone) {
  Put(kPte, 0x5000 | kP | kU | kNx | Bit(60));
  const OracleResult denied = Translate(kUserWrite, kGva + 0x123);
  EXPECT_EQ(denied.kind, OracleResult::Kind::kGuestFault);
  EXPECT_EQ(denied.page, Gpa(0x5123));
  EXPECT_TRUE(denied.denied.rights);
  EXPECT_TRUE(denied.user && !denied.writable && !denied.executable);
  EXPECT_EQ(denied.key, 2u);
  // Not so where the walk did not complete.
  Put(kPte, 0x5000);
  EXPECT_EQ(Translate(kUserWrite).page, std::nullopt);
  Put(kPte, 0x5000 | kP | Bit(45));
  EXPECT_EQ(Translate(kUserWrite).page, std::nullopt);
}

// ---- Accessed and dirty ----

TEST_F(OracleTest, AReadSetsAccessedAtEachLevel) {
  EXPECT_THAT(Translate(Read()).updates,
              ElementsAre(EntryUpdate{kPml4e, kA}, EntryUpdate{kPdpte, kA},
                          EntryUpdate{kPde, kA}, EntryUpdate{kPte, kA}));
}

TEST_F(OracleTest, AWriteSetsDirtyInTheLeafAndOnlyWhatIsClear) {
  Put(kPml4e, 0x2000 | kP | kW | kU | kA);
  Put(kPte, 0x5000 | kP | kW | kU | kA);
  const OracleResult result = Translate(Write());
  EXPECT_THAT(result.updates,
              ElementsAre(EntryUpdate{kPdpte, kA}, EntryUpdate{kPde, kA},
                          EntryUpdate{kPte, kD}));
  EXPECT_FALSE(result.dirty);
  Put(kPte, 0x5000 | kP | kW | kU | kA | kD);
  EXPECT_TRUE(Translate(Read()).dirty);
  EXPECT_EQ(Translate(Write()).updates.size(), 2u);
}

TEST_F(OracleTest, AWriteToALargePageSetsDirtyInItsEntry) {
  Put(kPde, 0x60'0000 | kP | kW | kPs);
  EXPECT_THAT(Translate(Write()).updates,
              ElementsAre(EntryUpdate{kPml4e, kA}, EntryUpdate{kPdpte, kA},
                          EntryUpdate{kPde, kA | kD}));
}

TEST_F(OracleTest, AnEntryThatServesAtSeveralLevelsIsUpdatedOnce) {
  // Entry 0x1ff of the PML4 maps the PML4 itself; this address walks through it
  // four times and ends at the PML4's own frame.
  const Gpa self(0x1000 + 0x1ff * 8);
  Put(self, 0x1000 | kP | kW);
  const OracleResult result = Translate(Write(), Gva(0xffff'ffff'ffff'f000));
  EXPECT_EQ(result.gpa, Gpa(0x1000));
  EXPECT_THAT(result.updates, ElementsAre(EntryUpdate{self, kA | kD}));
}

TEST_F(OracleTest, NoBitIsSetInATableInAReadOnlySlot) {
  // The page table moves to frame 0x100, in the read-only slot.
  const Gpa pte(0x10'0000 + 0x34 * 8);
  Put(kPde, 0x10'0000 | kP | kW | kU);
  Put(pte, 0x5000 | kP | kW | kU);
  const OracleResult result = Translate(Write());
  EXPECT_EQ(result.gpa, Gpa(0x5000));
  EXPECT_EQ(result.target, OracleTarget::kMemory);
  EXPECT_THAT(result.updates,
              ElementsAre(EntryUpdate{kPml4e, kA}, EntryUpdate{kPdpte, kA},
                          EntryUpdate{kPde, kA}));
}

// ---- Slots ----

TEST_F(OracleTest, AWriteIntoAReadOnlySlotPassesTheTablesAndNotTheSlot) {
  Put(kPte, 0x10'3000 | kP | kW | kU);
  const OracleResult write = Translate(Write());
  EXPECT_EQ(write.target, OracleTarget::kReadOnlySlot);
  EXPECT_EQ(write.slot->id, SlotId{1});
  EXPECT_EQ(write.updates.size(), 4u);
  EXPECT_EQ(Translate(Read()).target, OracleTarget::kMemory);
}

TEST_F(OracleTest, AnAddressInNoSlotSaysSo) {
  Put(kPte, 0xfee0'0000 | kP | kW | kU);
  const OracleResult result = Translate(Read());
  EXPECT_EQ(result.kind, OracleResult::Kind::kTranslated);
  EXPECT_EQ(result.target, OracleTarget::kNoSlot);
  EXPECT_EQ(result.gpa, Gpa(0xfee0'0000));
  EXPECT_FALSE(result.slot.has_value());
}

TEST_F(OracleTest, ATableInNoSlotIsItsOwnResultWithTheEntrysAddress) {
  Put(kPde, 0x7000'0000 | kP | kW | kU);
  const OracleResult result = Translate(Read());
  EXPECT_EQ(result.kind, OracleResult::Kind::kTableOutsideSlots);
  EXPECT_EQ(result.gpa, Gpa(0x7000'0000 + 0x34 * 8));
  EXPECT_THAT(result.updates, IsEmpty());
  cpu_.registers.cr3 = 0x9'0000'0000;
  EXPECT_EQ(Translate(Read()).gpa, Gpa(0x9'0000'0000 + 0x0ab * 8));
}

TEST_F(OracleTest, ATableThatTheHostRefusesIsItsOwnResult) {
  host_.Unmap(Hva(0x10'0000 + 0x4000));
  const OracleResult result = Translate(Read());
  EXPECT_EQ(result.kind, OracleResult::Kind::kTableUnreadable);
  EXPECT_EQ(result.gpa, kPte);
}

TEST_F(OracleTest, EachAddressSpaceHasItsOwnSlots) {
  EXPECT_EQ(oracle_->Translate(cpu_, AddressSpace::kSmm, kGva, Read()).kind,
            OracleResult::Kind::kTableOutsideSlots);
}

}  // namespace
}  // namespace shadowmmu::testing
