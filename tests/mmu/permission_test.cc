// CR0.WP, SMEP, SMAP, protection keys, and rights along the walk, through the
// public face and a CPU that walks what was written. What follows from every
// combination is compared with the oracle by scripts/exhaustive; here are the
// cases that have gone wrong elsewhere, and what an spte must hold.

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {
namespace {

using Kind = FaultOutcome::Kind;

constexpr uint64_t kAll = gpte::kWritable | gpte::kUser;
constexpr Gva kGva{0x5000};
constexpr Gpa kData{0x40'0000};
constexpr GfnRange kTables{Gfn(16), 64};
constexpr uint32_t kP = pf_error::kPresent;
constexpr uint32_t kW = pf_error::kWrite;
constexpr uint32_t kU = pf_error::kUser;
constexpr uint32_t kI = pf_error::kFetch;
constexpr uint32_t kPk = pf_error::kProtectionKey;

constexpr uint64_t Key(uint64_t key) { return key << 59; }
// PKRU that forbids a key's accesses (AD), or its writes (WD).
constexpr uint32_t Ad(unsigned key) { return 1u << (2 * key); }
constexpr uint32_t Wd(unsigned key) { return 2u << (2 * key); }

Access WithAc(Access access) {
  access.eflags_ac = true;
  return access;
}
Access Implicitly(Access access) {
  access.implicit = Implicit::kYes;
  return access;
}
Access WithPkru(Access access, uint32_t pkru) {
  access.pkru = pkru;
  return access;
}
Access User(AccessType type) {
  return {.type = type, .privilege = Privilege::kUser};
}
const Access kUserRead = User(AccessType::kRead);
const Access kUserWrite = User(AccessType::kWrite);
const Access kUserFetch = User(AccessType::kFetch);

// A vCPU in long mode, whose bits the tests turn round.
class Permission : public ::testing::Test {
 protected:
  Permission() {
    vm_.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = 4096});
    cpu_ = &vm_.AddVcpu();
    tables_ = &vm_.UseTables(*cpu_, kTables);
    registers_ = cpu_->mmu().registers();
  }
  ~Permission() override { EXPECT_EQ(vm_.Violations(), ""); }

  // Of the registers at first, with these bits turned round.
  void Flip(uint64_t cr0, uint64_t cr4, uint64_t efer = 0) {
    PagingRegisters registers = registers_;
    registers.cr0 ^= cr0;
    registers.cr4 ^= cr4;
    registers.efer ^= efer;
    ASSERT_TRUE(cpu_->mmu().SetRegisters(registers).ok());
  }
  void Map(uint64_t bits, Level level = Level::k4K, Gva gva = kGva,
           Gpa gpa = kData) {
    ASSERT_TRUE(tables_->Map(gva, gpa, level, bits).ok());
  }
  void Allows(const Access& access, Gva gva = kGva) {
    const TouchResult touched = cpu_->Touch(gva, access);
    EXPECT_TRUE(touched.hit()) << access << ": " << touched;
  }
  void Denies(const Access& access, uint32_t code, Gva gva = kGva) {
    const TouchResult touched = cpu_->Touch(gva, access);
    ASSERT_TRUE(touched.EndedAs(Kind::kGuestFault))
        << access << ": " << touched;
    EXPECT_EQ(touched.outcome.guest_fault.error_code, code) << access;
  }
  // The only spte that maps the page.
  LeafRecord Leaf(Gpa gpa = kData) {
    EXPECT_EQ(vm_.RmapLength(ToGfn(gpa)), 1u);
    for (const LeafRecord& leaf : Dump(vm_.mmu()).leaves) {
      if (leaf.gfn == ToGfn(gpa)) return leaf;
    }
    return {};
  }
  bool IsFixUp(Gpa gpa = kData) {
    const LeafRecord leaf = Leaf(gpa);
    return leaf.writable && !leaf.user;
  }
  bool IsReadOnlyUserPage(Gpa gpa = kData) {
    const LeafRecord leaf = Leaf(gpa);
    return !leaf.writable && leaf.user;
  }

  SmallVm vm_;
  GuestVcpu* cpu_ = nullptr;
  GuestTableBuilder* tables_ = nullptr;
  PagingRegisters registers_;
};

// ---- CR0.WP ----

TEST_F(Permission, WithWpClearSupervisorCodeWritesAReadOnlyUserPage) {
  Map(gpte::kUser);
  Denies(Write(), kP | kW);
  Flip(cr0::kWp, 0);
  Allows(Write());
  EXPECT_TRUE(IsFixUp());
  Denies(kUserWrite, kP | kW | kU);
  Allows(kUserRead);
  EXPECT_TRUE(IsReadOnlyUserPage());
  Allows(Write());
  EXPECT_TRUE(IsFixUp());
  Allows(kUserFetch);
}

TEST_F(Permission, WpClearThenSetLeavesNothingWritableOnTheSamePage) {
  Map(gpte::kUser);
  for (int round = 0; round < 3; ++round) {
    Flip(cr0::kWp, 0);
    Allows(Write());
    Flip(0, 0);
    Denies(Write(), kP | kW);
    Denies(kUserWrite, kP | kW | kU);
    Allows(kUserRead);
    EXPECT_EQ(vm_.Violations(), "");
  }
}

TEST_F(Permission, ASupervisorPageThatIsReadOnlyStaysOneForUserCode) {
  Map(0);
  Flip(cr0::kWp, 0);
  Allows(Write());
  Allows(Fetch());
  Denies(kUserRead, kP | kU);
  Denies(kUserWrite, kP | kW | kU);
}

TEST_F(Permission, AFixUpTakesTheDirtyBitAsAnyWriteDoes) {
  Map(gpte::kUser);
  Flip(cr0::kWp, 0);
  Allows(Read());
  EXPECT_EQ(tables_->Entry(kGva, Level::k4K).value() & gpte::kDirty, 0u);
  Allows(Write());
  EXPECT_NE(tables_->Entry(kGva, Level::k4K).value() & gpte::kDirty, 0u);
}

TEST_F(Permission, AFixUpOfAPageThatHoldsAGuestTableIsEmulated) {
  const Gpa table = tables_->root();
  Map(gpte::kUser, Level::k4K, Gva(0x9000), table);
  Flip(cr0::kWp, 0);
  const TouchResult touched = cpu_->Touch(Gva(0x9000), Write());
  ASSERT_TRUE(touched.EndedAs(Kind::kEmulate)) << touched;
  EXPECT_EQ(touched.outcome.emulate_reason, EmulateReason::kWriteTracked);
  EXPECT_TRUE(IsReadOnlyUserPage(table)) << "what reads need";
}

TEST_F(Permission, AFixUpInALargeGuestPageIsOfOnePage) {
  Map(gpte::kUser, Level::k2M, Gva(0x80'0000));
  Flip(cr0::kWp, 0);
  Allows(Read(), Gva(0x80'0000));
  Allows(Write(), Gva(0x80'1000));
  EXPECT_TRUE(IsReadOnlyUserPage());
  EXPECT_TRUE(IsFixUp(kData + 0x1000));
  Denies(kUserWrite, kP | kW | kU, Gva(0x80'1000));
}

// ---- SMEP ----

TEST_F(Permission, SmepForbidsSupervisorFetchesFromUserPagesAlone) {
  Map(kAll);
  Allows(Fetch());
  Flip(0, cr4::kSmep);
  Denies(Fetch(), kP | kI);
  Allows(kUserFetch);
  Map(gpte::kWritable, Level::k4K, Gva(0x6000), kData + 0x1000);
  Allows(Fetch(), Gva(0x6000));
  Flip(0, 0);
  Allows(Fetch());
}

TEST_F(Permission, SmepWithWpClearMakesAFixUpThatCannotBeFetched) {
  Map(gpte::kUser);
  Flip(cr0::kWp, cr4::kSmep);
  Allows(Write());
  EXPECT_TRUE(IsFixUp());
  EXPECT_FALSE(Leaf().executable);
  Denies(Fetch(), kP | kI);
  Allows(kUserFetch);
  Denies(Fetch(), kP | kI);
  // Without SMEP the same page again.
  Flip(cr0::kWp, 0);
  Allows(Write());
  Allows(Fetch());
}

TEST_F(Permission, IDIsToldWithSmepOrNxeAlone) {
  Map(0);
  for (const bool smep : {false, true}) {
    for (const bool nxe : {false, true}) {
      Flip(0, smep ? cr4::kSmep : 0, nxe ? 0 : efer::kNxe);
      Denies(kUserFetch, kP | kU | (smep || nxe ? kI : 0));
    }
  }
}

// ---- SMAP ----

TEST_F(Permission, SmapForbidsWhatAcDoesNotAllowAndImplicitAccessesAlways) {
  Map(kAll);
  Flip(0, cr4::kSmap);
  Denies(Read(), kP);
  Denies(Write(), kP | kW);
  Allows(WithAc(Read()));
  Allows(WithAc(Write()));
  Denies(Implicitly(WithAc(Read())), kP);
  Denies(Implicitly(WithAc(kUserWrite)), kP | kW);
  Allows(kUserWrite);
  Allows(Fetch());
  Map(gpte::kWritable, Level::k4K, Gva(0x6000), kData + 0x1000);
  Allows(Write(), Gva(0x6000));
  Allows(Implicitly(kUserRead), Gva(0x6000));
}

TEST_F(Permission, SmapAfterAFixUpWithoutItFindsNoFixUp) {
  Map(gpte::kUser);
  Flip(cr0::kWp, 0);
  Allows(Write());
  Flip(cr0::kWp, cr4::kSmap);
  Denies(Read(), kP);
  Denies(Write(), kP | kW);
  Allows(WithAc(Write()));
}

// ---- Protection keys ----

TEST_F(Permission, TheKeyOfAUserPageIsInItsSpte) {
  Map(kAll | Key(5));
  Flip(0, cr4::kPke);
  Allows(WithPkru(kUserWrite, Ad(4) | Ad(6)));
  EXPECT_EQ(Leaf().key, 5u);
  Denies(WithPkru(kUserRead, Ad(5)), kP | kU | kPk);
  Denies(WithPkru(kUserWrite, Wd(5)), kP | kW | kU | kPk);
  Allows(WithPkru(kUserRead, Wd(5)));
  Allows(WithPkru(kUserFetch, Ad(5) | Wd(5)));
  Denies(WithPkru(Read(), Ad(5)), kP | kPk);
  Denies(WithPkru(Write(), Wd(5)), kP | kW | kPk);
}

TEST_F(Permission, WithoutPkeBits62To59MeanNothing) {
  Map(kAll | Key(5));
  Allows(WithPkru(kUserWrite, ~0u));
  Flip(0, cr4::kPke);
  Denies(WithPkru(kUserWrite, ~0u), kP | kW | kU | kPk);
}

TEST_F(Permission, KeysAreOfNoAccountOnSupervisorPages) {
  Map(gpte::kWritable | Key(5));
  Flip(0, cr4::kPke);
  Allows(WithPkru(Write(), ~0u));
}

TEST_F(Permission, PkIsToldBesideAnotherCause) {
  Map(gpte::kUser | Key(5));
  Flip(0, cr4::kPke);
  Denies(WithPkru(kUserWrite, Wd(5)), kP | kW | kU | kPk);
  Denies(WithPkru(kUserWrite, 0), kP | kW | kU);
}

TEST_F(Permission, WithWpClearWdDoesNotHoldSupervisorCode) {
  Map(kAll | Key(5));
  Flip(cr0::kWp, cr4::kPke);
  Allows(WithPkru(Write(), Wd(5)));
  EXPECT_TRUE(IsFixUp());
  Denies(WithPkru(kUserWrite, Wd(5)), kP | kW | kU | kPk);
  Denies(WithPkru(kUserRead, Ad(5)), kP | kU | kPk);
  Allows(WithPkru(kUserWrite, 0));
}

TEST_F(Permission, LargePagesOfTwoKeysOnTheSameMemoryKeepThem) {
  Map(kAll | Key(3), Level::k2M, Gva(0x80'0000));
  Map(kAll | Key(9), Level::k2M, Gva(0xa0'0000));
  Flip(0, cr4::kPke);
  Allows(WithPkru(kUserWrite, ~(Ad(3) | Wd(3))), Gva(0x80'0000));
  Allows(WithPkru(kUserWrite, ~(Ad(9) | Wd(9))), Gva(0xa0'0000));
  Denies(WithPkru(kUserRead, Ad(3)), kP | kU | kPk, Gva(0x80'0000));
  Denies(WithPkru(kUserRead, Ad(9)), kP | kU | kPk, Gva(0xa0'0000));
  EXPECT_EQ(vm_.RmapLength(ToGfn(kData)), 2u);
}

// ---- Rights along the walk ----

TEST_F(Permission, OneTableUnderParentsOfOtherRightsGivesEachItsOwn) {
  // A page table below four directory entries, in turn writable, user, both,
  // neither.
  Map(kAll);
  const Gfn table =
      ToGfn(Gpa(tables_->Entry(kGva, Level::k2M).value() & gpte::kAddress));
  for (uint64_t i = 0; i < 4; ++i) {
    const Gva gva(kGva.value() + (i + 1) * 0x20'0000);
    const uint64_t bits = (i & 1 ? gpte::kWritable : 0) |
                          (i & 2 ? gpte::kUser : 0) | gpte::kPresent;
    ASSERT_TRUE(
        tables_->SetEntry(gva, Level::k2M, ToGpa(table).value() | bits).ok());
  }
  for (int round = 0; round < 2; ++round) {
    for (uint64_t i = 0; i < 4; ++i) {
      const Gva gva(kGva.value() + (i + 1) * 0x20'0000);
      const bool writable = (i & 1) != 0;
      const bool user = (i & 2) != 0;
      Allows(Read(), gva);
      user ? Allows(kUserRead, gva) : Denies(kUserRead, kP | kU, gva);
      writable ? Allows(Write(), gva) : Denies(Write(), kP | kW, gva);
      user&& writable ? Allows(kUserWrite, gva)
                      : Denies(kUserWrite, kP | kW | kU, gva);
    }
    Allows(kUserWrite);
  }
  EXPECT_EQ(vm_.RmapLength(ToGfn(kData)), 4u) << "two ways have all rights";
}

TEST_F(Permission, AliasesOfAPageHaveTheRightsOfTheirOwnWay) {
  Map(kAll);
  Map(gpte::kUser | gpte::kNoExecute, Level::k4K, Gva(0x6000));
  Map(gpte::kWritable, Level::k4K, Gva(0x7000));
  Allows(kUserWrite);
  Denies(kUserWrite, kP | kW | kU, Gva(0x6000));
  Denies(kUserFetch, kP | kU | kI, Gva(0x6000));
  Denies(kUserRead, kP | kU, Gva(0x7000));
  Allows(Write(), Gva(0x7000));
  Flip(cr0::kWp, 0);
  Allows(Write(), Gva(0x6000));
  Denies(kUserWrite, kP | kW | kU, Gva(0x6000));
  Allows(kUserWrite);
}

TEST_F(Permission, EachControlBitTurnedWhileSptesExistActsAtOnce) {
  Map(kAll | Key(1));
  Map(gpte::kUser | gpte::kNoExecute | Key(2), Level::k4K, Gva(0x6000),
      kData + 0x1000);
  const Access keyed = WithPkru(kUserRead, Ad(1));
  for (int round = 0; round < 2; ++round) {
    Flip(0, 0);
    Allows(Fetch());
    Allows(Write());
    Allows(keyed);
    Denies(Write(), kP | kW, Gva(0x6000));
    Denies(kUserFetch, kP | kU | kI, Gva(0x6000));
    Flip(0, cr4::kSmep);
    Denies(Fetch(), kP | kI);
    Flip(0, cr4::kSmap);
    Denies(Write(), kP | kW);
    Flip(0, cr4::kPke);
    Denies(keyed, kP | kU | kPk);
    Flip(cr0::kWp, 0);
    Allows(Write(), Gva(0x6000));
    Flip(0, 0, efer::kNxe);
    Denies(kUserRead, kP | kU | pf_error::kReserved, Gva(0x6000));
    Allows(kUserFetch);
  }
}

TEST_F(Permission, ALargePageWhoseEntryBecomesReservedFaultsAsThat) {
  Map(kAll, Level::k2M, Gva(0x80'0000));
  Allows(Write(), Gva(0x80'0000));
  Allows(Write(), Gva(0x80'3000));
  tables_->SetStore(&vm_.tracked());
  const uint64_t entry = tables_->Entry(Gva(0x80'0000), Level::k2M).value();
  for (const unsigned bit : {13u, 20u, 48u, 51u}) {
    ASSERT_TRUE(
        tables_
            ->SetEntry(Gva(0x80'0000), Level::k2M, entry | uint64_t{1} << bit)
            .ok());
    Denies(Read(), kP | pf_error::kReserved, Gva(0x80'0000));
    Denies(kUserWrite, kP | kW | kU | pf_error::kReserved, Gva(0x80'3000));
    ASSERT_TRUE(tables_->SetEntry(Gva(0x80'0000), Level::k2M, entry).ok());
    Allows(Write(), Gva(0x80'0000));
  }
}

// ---- The walking CPU ----

TEST_F(Permission, TheWalkingCpuHasTheGuestsBitsAndAlwaysWp) {
  const auto state = [&] {
    EXPECT_TRUE(cpu_->mmu().EnterGuest().resume());
    const HardwareState now = cpu_->mmu().HardwareState();
    cpu_->mmu().ExitGuest();
    return now;
  };
  const uint64_t kBits = cr4::kSmep | cr4::kSmap | cr4::kPke;
  Flip(cr0::kWp, kBits);
  EXPECT_NE(state().cr0 & cr0::kWp, 0u);
  EXPECT_EQ(state().cr4, cr4::kPae | kBits);
  // With paging off every page is a user page to it.
  ASSERT_TRUE(cpu_->mmu().SetRegisters({.cr0 = cr0::kPe, .cr4 = kBits}).ok());
  EXPECT_EQ(state().cr4, cr4::kPae);
  Allows(Fetch(), Gva(kData.value()));
  Allows(Write(), Gva(kData.value()));
}

}  // namespace
}  // namespace shadowmmu::testing
