// Guests with PAE paging: PDPTEs are registers, loaded and checked when the
// manual says so, and the walking CPU's root of four entries follows them.

#include <gtest/gtest.h>

#include <cstdint>

#include "tests/mmu/paging_modes_fixture.h"

namespace shadowmmu::testing {
namespace {

using Kind = FaultOutcome::Kind;

class PaePaging : public PagingModes {
 protected:
  PaePaging() {
    Use(GuestMode::kPae);
    Map(Gva(0x5000), kData);
    registers_ = cpu_->mmu().registers();
  }
  Gpa PdpteAt(unsigned i) const { return tables_->root() + i * 8; }
  // The status of a MOV to CR3, which must change nothing if it fails.
  void ExpectCr3Refused(absl::StatusCode code, uint64_t cr3) {
    ExpectHit(Gva(0x5000), Write(), kData);
    const Pdptes before = cpu_->mmu().pdptes();
    const PagingRegisters registers = cpu_->mmu().registers();
    const absl::Status status = cpu_->mmu().WriteCr3(cr3);
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_EQ(cpu_->mmu().pdptes(), before);
    EXPECT_EQ(cpu_->mmu().registers(), registers);
    EXPECT_TRUE(cpu_->Touch(Gva(0x5000), Write()).from_tlb);
  }

  PagingRegisters registers_;
};

TEST_F(PaePaging, APdpteWithAReservedBitRefusesTheLoad) {
  const uint64_t good = tables_->Entry(Gva(0), Level::k1G).value();
  EXPECT_EQ(cpu_->mmu().pdptes()[0], good);
  for (const unsigned bit : {1u, 2u, 5u, 6u, 7u, 8u, 48u, 51u, 52u, 62u, 63u}) {
    for (unsigned i = 0; i < 4; ++i) {
      const uint64_t old =
          tables_->Entry(Gva(uint64_t{i} << 30), Level::k1G).value();
      HostStore(PdpteAt(i), old | uint64_t{1} << bit);
      ExpectCr3Refused(absl::StatusCode::kInvalidArgument, registers_.cr3);
      // One that is not present may hold anything.
      HostStore(PdpteAt(i), uint64_t{1} << bit);
      EXPECT_TRUE(cpu_->mmu().WriteCr3(registers_.cr3).ok());
      HostStore(PdpteAt(i), old);
      EXPECT_TRUE(cpu_->mmu().WriteCr3(registers_.cr3).ok());
    }
  }
  for (const unsigned bit : {3u, 4u, 9u, 10u, 11u}) {
    HostStore(PdpteAt(0), good | uint64_t{1} << bit);
    EXPECT_TRUE(cpu_->mmu().WriteCr3(registers_.cr3).ok()) << bit;
    ExpectHit(Gva(0x5000), Write(), kData);
  }
}

TEST_F(PaePaging, PdptesOutsideTheSlotsAreNotFound) {
  ExpectCr3Refused(absl::StatusCode::kNotFound,
                   ToGpa(Gfn(kPagesOfSlot)).value());
}

TEST_F(PaePaging, PdptesThatTheHostIsTakingAwayAreUnavailable) {
  const Hva hva = *vm_.memory().HvaOf(AddressSpace::kNormal, ToGpa(Gfn(2000)));
  ASSERT_TRUE(vm_.mmu().InvalidateBegin({hva, kPageSize}).ok());
  ExpectCr3Refused(absl::StatusCode::kUnavailable, ToGpa(Gfn(2000)).value());
  ASSERT_TRUE(vm_.mmu().InvalidateEnd({hva, kPageSize}).ok());
  EXPECT_TRUE(cpu_->mmu().WriteCr3(ToGpa(Gfn(2000)).value()).ok());
  EXPECT_EQ(cpu_->mmu().pdptes(), Pdptes()) << "the page holds zeros";
}

TEST_F(PaePaging, PdptesThatTheHostHasNotAreAFailedPrecondition) {
  const Hva hva = *vm_.memory().HvaOf(AddressSpace::kNormal, ToGpa(Gfn(2000)));
  ASSERT_TRUE(vm_.mmu().InvalidateBegin({hva, kPageSize}).ok());
  vm_.host().Unmap(hva);
  ASSERT_TRUE(vm_.mmu().InvalidateEnd({hva, kPageSize}).ok());
  ExpectCr3Refused(absl::StatusCode::kFailedPrecondition,
                   ToGpa(Gfn(2000)).value());
}

TEST_F(PaePaging, AStateLoadedAsAWholeBringsItsPdptes) {
  const Pdptes saved = cpu_->mmu().pdptes();
  // The guest goes on, with others under the same CR3; then it is put back.
  HostStore(PdpteAt(0), uint64_t{0});
  ASSERT_TRUE(cpu_->mmu().WriteCr3(registers_.cr3).ok());
  ExpectFault(Gva(0x5000), Write(), pf_error::kWrite);
  ASSERT_TRUE(cpu_->mmu().SetRegisters(registers_, saved).ok());
  EXPECT_EQ(cpu_->mmu().pdptes(), saved);
  ExpectHit(Gva(0x5000), Write(), kData);
  // Into another mode and back.
  ASSERT_TRUE(cpu_->mmu().SetRegisters({}, Pdptes()).ok());
  ASSERT_TRUE(cpu_->mmu().SetRegisters(registers_, saved).ok());
  ExpectHit(Gva(0x5000), Write(), kData);

  Pdptes wrong = saved;
  wrong[2] |= 2;
  for (const absl::Status& status :
       {cpu_->mmu().SetRegisters(registers_, wrong),
        cpu_->mmu().SetRegisters({}, saved)}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  }
  EXPECT_EQ(cpu_->mmu().registers(), registers_);
  EXPECT_EQ(cpu_->mmu().pdptes(), saved);
}

TEST_F(PaePaging, EntriesThatChangeInMemoryCountFromTheNextLoadOn) {
  ExpectHit(Gva(0x5000), Write(), kData);
  for (const bool trapped : {false, true}) {
    const uint64_t old = tables_->Entry(Gva(0), Level::k1G).value();
    if (trapped) {
      Store(PdpteAt(0), uint64_t{0});
    } else {
      HostStore(PdpteAt(0), uint64_t{0});
    }
    vm_.mmu().InvalidateAll(Strategy::kZapAll);
    ExpectHit(Gva(0x5000), Write(), kData);
    EXPECT_EQ(cpu_->mmu().pdptes()[0], old);
    ASSERT_TRUE(cpu_->mmu().WriteCr3(registers_.cr3).ok());
    EXPECT_EQ(cpu_->mmu().pdptes()[0], 0u);
    ExpectFault(Gva(0x5000), Write(), pf_error::kWrite);
    HostStore(PdpteAt(0), old);
    ASSERT_TRUE(cpu_->mmu().WriteCr3(registers_.cr3).ok());
  }
}

TEST_F(PaePaging, WhichRegisterWritesLoadThePdptes) {
  const uint64_t old = tables_->Entry(Gva(0), Level::k1G).value();
  const auto loads = [&](uint64_t cr0, uint64_t cr4, uint64_t cr3) {
    EXPECT_TRUE(cpu_->mmu().SetRegisters(registers_).ok());
    HostStore(PdpteAt(0), old);
    EXPECT_TRUE(cpu_->mmu().WriteCr3(registers_.cr3).ok());
    HostStore(PdpteAt(0), uint64_t{0});
    PagingRegisters registers = registers_;
    registers.cr0 ^= cr0;
    registers.cr4 ^= cr4;
    registers.cr3 ^= cr3;
    EXPECT_TRUE(cpu_->mmu().SetRegisters(registers).ok());
    return cpu_->mmu().pdptes()[0] == 0;
  };
  EXPECT_FALSE(loads(0, 0, 0));
  EXPECT_FALSE(loads(cr0::kWp, 0, 0));
  EXPECT_FALSE(loads(0, cr4::kSmap, 0));
  EXPECT_TRUE(loads(cr0::kCd, 0, 0));
  EXPECT_TRUE(loads(cr0::kCd | cr0::kNw, 0, 0));
  EXPECT_TRUE(loads(0, cr4::kPse, 0));
  EXPECT_TRUE(loads(0, cr4::kPge, 0));
  EXPECT_TRUE(loads(0, cr4::kSmep, 0));
  EXPECT_TRUE(loads(0, 0, 0x8)) << "PWT: another value of CR3";
  // From paging off.
  EXPECT_TRUE(cpu_->mmu().SetRegisters({}).ok());
  EXPECT_EQ(cpu_->mmu().pdptes(), Pdptes());
  HostStore(PdpteAt(0), old);
  EXPECT_TRUE(cpu_->mmu().SetRegisters(registers_).ok());
  EXPECT_EQ(cpu_->mmu().pdptes()[0], old);
}

TEST_F(PaePaging, APdpteThatIsNotPresentIsTheGuestsFault) {
  HostStore(PdpteAt(3), uint64_t{0});
  ASSERT_TRUE(cpu_->mmu().WriteCr3(registers_.cr3).ok());
  ExpectFault(Gva(0xc000'0000), Write(Privilege::kUser),
              pf_error::kWrite | pf_error::kUser);
  ExpectHit(Gva(0x5000), Write(), kData);
}

TEST_F(PaePaging, ADirectoryOutsideTheSlotsMattersToWhoNeedsItOnly) {
  HostStore(PdpteAt(3), ToGpa(Gfn(kPagesOfSlot + 7)).value() | 1);
  ASSERT_TRUE(cpu_->mmu().WriteCr3(registers_.cr3).ok());
  ExpectHit(Gva(0x5000), Write(), kData);
  const TouchResult touched = cpu_->Touch(Gva(0xc000'5000), Read());
  ASSERT_TRUE(touched.EndedAs(Kind::kMemoryFault)) << touched;
  EXPECT_EQ(touched.outcome.memory_fault_reason,
            MemoryFaultReason::kTableOutsideSlots);
  // Then a slot comes.
  vm_.AddSlot({.id = SlotId{1}, .base = Gfn(kPagesOfSlot), .pages = 16});
  HostStore(ToGpa(Gfn(kPagesOfSlot + 7)), kData.value() | 0xe7);
  ExpectHit(Gva(0xc000'5000), Write(), kData + 0x5000);
  ExpectHit(Gva(0x5000), Write(), kData);
  // And goes.
  vm_.DeleteSlot(AddressSpace::kNormal, SlotId{1});
  EXPECT_TRUE(
      cpu_->Touch(Gva(0xc000'5000), Read()).EndedAs(Kind::kMemoryFault));
  ExpectHit(Gva(0x5000), Write(), kData);
}

TEST_F(PaePaging, OneDirectoryMayServeSeveralPdptes) {
  HostStore(PdpteAt(1), tables_->Entry(Gva(0), Level::k1G).value());
  ASSERT_TRUE(cpu_->mmu().WriteCr3(registers_.cr3).ok());
  ExpectHit(Gva(0x5000), Write(), kData);
  ExpectHit(Gva(0x4000'5000), Write(), kData);
  EXPECT_EQ(vm_.RmapLength(ToGfn(kData)), 1u) << "by one shadow page";
}

TEST_F(PaePaging, TheWalkingCpusRootIsBelow4GiBAndInStep) {
  ExpectHit(Gva(0x5000), Write(), kData);
  const HardwareState state = cpu_->mmu().HardwareState();
  EXPECT_EQ(state.root.value() >> 32, 0u);
  EXPECT_EQ(state.root.value() % 32, 0u);
  EXPECT_EQ(state.efer, efer::kNxe);
  const auto* entries =
      static_cast<const uint64_t*>(vm_.host().PointerToTable(state.root));
  for (unsigned i = 0; i < 4; ++i) EXPECT_EQ(entries[i] & 0xfff, 1u) << i;
  HostStore(PdpteAt(2), uint64_t{0});
  ASSERT_TRUE(cpu_->mmu().WriteCr3(registers_.cr3).ok());
  ExpectHit(Gva(0x5000), Write(), kData);
  EXPECT_EQ(entries[2], 0u);
}

}  // namespace
}  // namespace shadowmmu::testing
