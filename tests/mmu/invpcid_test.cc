// INVPCID: what of a guest's roots each of its types reaches, and what it
// refuses.

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "tests/mmu/pcid_fixture.h"

namespace shadowmmu::testing {
namespace {

// ---- Of an address ----

class PcidsInEveryMode : public Pcids,
                         public ::testing::WithParamInterface<GuestMode> {};
INSTANTIATE_TEST_SUITE_P(LongMode, PcidsInEveryMode,
                         ::testing::Values(GuestMode::kFourLevel,
                                           GuestMode::kFiveLevel));

TEST_P(PcidsInEveryMode, InvpcidOfAnAddressReachesAnotherPcid) {
  AddProcesses(3, GetParam());
  RunAll();
  HostEdits(0);
  HostEdits(1);
  ASSERT_TRUE(Invpcid(InvpcidType::kAddress, 1).ok());
  EXPECT_EQ(vm_.RmapLength(kData), 0u);
  EXPECT_EQ(vm_.RmapLength(kData + 1), 1u) << "that is of another PCID";
  Keeping(0);
  ExpectPage(0, /*edited=*/true);
  Keeping(1);
  ExpectPage(1, /*edited=*/false);
}

TEST_F(Pcids, InvpcidOfAnAddressReachesTheCurrentPcid) {
  AddProcesses(2);
  RunAll();
  HostEdits(1);
  ASSERT_TRUE(Invpcid(InvpcidType::kAddress, 2).ok());
  ExpectPage(1, /*edited=*/true);
}

// A PCID can have had several tables.
TEST_F(Pcids, InvpcidOfAnAddressReachesEveryRootOfThePcid) {
  AddProcesses(2);
  RunAll();
  WriteCr3(tables_[0]->root().value() | 2 | cr3::kNoFlush);
  ExpectPage(0);
  HostEdits(0);
  HostEdits(1);
  ASSERT_TRUE(Invpcid(InvpcidType::kAddress, 2).ok());
  ExpectPage(0, /*edited=*/true);
  Keeping(1);
  ExpectPage(1, /*edited=*/true);
}

// One table under two PCIDs: were these one root, it would be that of the
// first.
TEST_F(Pcids, InvpcidOfAnAddressReachesATableThatHasTwoPcids) {
  AddProcesses(2);
  RunAll();
  Keeping(0);
  WriteCr3(tables_[0]->root().value() | 3 | cr3::kNoFlush);
  ExpectPage(0);
  Keeping(1);
  HostEdits(0);
  ASSERT_TRUE(Invpcid(InvpcidType::kAddress, 3).ok());
  WriteCr3(tables_[0]->root().value() | 3 | cr3::kNoFlush);
  ExpectPage(0, /*edited=*/true);
}

TEST_F(Pcids, BothReachOthersWhereThereIsNoRootNow) {
  AddProcesses(2);
  RunAll();
  HostEdits(0);
  HostEdits(1);
  WriteCr3(ToGpa(Gfn(0x9'9999)).value() | 3);
  ASSERT_TRUE(Invpcid(InvpcidType::kAddress, 1).ok());
  EXPECT_EQ(cpu_->mmu().EnterGuest().kind, FaultOutcome::Kind::kMemoryFault);
  cpu_->mmu().Invlpg(kGva);
  for (uint64_t i = 0; i < 2; ++i) {
    Keeping(i);
    ExpectPage(i, /*edited=*/true);
  }
}

TEST_F(Pcids, AfterEverythingWasInvalidatedNoRootIsReached) {
  AddProcesses(2);
  RunAll();
  vm_.mmu().InvalidateAll(Strategy::kZapAll);
  ASSERT_TRUE(Invpcid(InvpcidType::kAddress, 1).ok());
  cpu_->mmu().Invlpg(kGva);
  for (uint64_t i = 0; i < 2; ++i) {
    Keeping(i);
    EXPECT_EQ(ExpectPage(i).faults, 1u);
  }
}

TEST_F(Pcids, WithoutThemInvpcidOfPcid0IsTheCurrentContext) {
  AddProcesses(1);
  registers_.cr4 &= ~cr4::kPcide;
  registers_.cr3 = tables_[0]->root().value();
  ASSERT_TRUE(cpu_->mmu().SetRegisters(registers_).ok());
  ExpectPage(0);
  HostEdits(0);
  ASSERT_TRUE(Invpcid(InvpcidType::kAddress, 0).ok());
  ExpectPage(0, /*edited=*/true);
  ASSERT_TRUE(Invpcid(InvpcidType::kContext, 0).ok());
  EXPECT_FALSE(ExpectPage(0, /*edited=*/true).from_tlb);
}

TEST_F(Pcids, OutsideLongModeInvpcidTakesThe32BitsThatThereAre) {
  GuestTableBuilder& tables =
      vm_.UseTables(*cpu_, {Gfn(16), 16}, GuestMode::kPae);
  tables_ = {&tables};
  Map(0, kData);
  ExpectPage(0);
  HostEdits(0);
  ASSERT_TRUE(Invpcid(InvpcidType::kAddress, 0,
                      Gva(0xdead'0000'0000'0000 | kGva.value()))
                  .ok());
  ExpectPage(0, /*edited=*/true);
}

// ---- Of a context, and of all ----

TEST_F(Pcids, InvpcidOfAContextFlushesItsRootsAlone) {
  AddProcesses(3);
  RunAll();
  ASSERT_TRUE(Invpcid(InvpcidType::kContext, 1).ok());
  EXPECT_EQ(Flushed(0), true);
  EXPECT_EQ(Flushed(1), false);
  EXPECT_TRUE(ExpectPage(2).from_tlb) << "nothing of it is in the TLB";
  // Coming back serves it.
  Keeping(0);
  ExpectPage(0);
  Keeping(1);
  EXPECT_EQ(Flushed(0), false);
}

TEST_F(Pcids, InvpcidOfAllFlushesEveryRoot) {
  AddProcesses(3);
  for (const InvpcidType type :
       {InvpcidType::kAllWithGlobal, InvpcidType::kAll}) {
    RunAll();
    ExpectPage(2);
    ASSERT_TRUE(Invpcid(type, 0).ok());
    EXPECT_EQ(Flushed(0), true);
    EXPECT_EQ(Flushed(1), true);
    EXPECT_FALSE(ExpectPage(2).from_tlb);
  }
}

// ---- What INVPCID refuses ----

TEST_F(Pcids, InvpcidRefusesWhatTheManualRefuses) {
  AddProcesses(1);
  RunAll();
  HostEdits(0);
  const auto expect_gp = [&](const std::string& words, InvpcidType type,
                             uint64_t pcid, Gva gva = kGva) {
    const absl::Status status = Invpcid(type, pcid, gva);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_EQ(status.message(), "#GP: " + words);
    const TouchResult touched = ExpectPage(0);
    EXPECT_TRUE(touched.from_tlb) << "nothing was flushed";
  };
  constexpr auto kNone = static_cast<InvpcidType>(4);
  constexpr auto kFar = static_cast<InvpcidType>(uint64_t{1} << 32);
  expect_gp("type: 4 is not 0 to 3", kNone, 1);
  expect_gp("type: 4294967296 is not 0 to 3", kFar, 1);
  for (const InvpcidType type :
       {InvpcidType::kAddress, InvpcidType::kContext,
        InvpcidType::kAllWithGlobal, InvpcidType::kAll}) {
    for (const unsigned bit : {12u, 63u}) {
      expect_gp("descriptor.pcid: reserved bits, 63 to 12, are set", type,
                1 | uint64_t{1} << bit);
    }
  }
  const std::string canonical = "descriptor.gva: not canonical";
  expect_gp(canonical, InvpcidType::kAddress, 1, Gva(0x8000'0000'0000));
  expect_gp(canonical, InvpcidType::kAddress, 1, Gva(0xffff'7fff'ffff'ffff));
  // Where it is no address it may be anything.
  EXPECT_TRUE(Invpcid(InvpcidType::kContext, 1, Gva(1ull << 63)).ok());
  EXPECT_TRUE(Invpcid(InvpcidType::kAll, 1, Gva(1ull << 63)).ok());
}

TEST_F(Pcids, APcidWithoutPcidsIsRefusedWhereItNamesOne) {
  AddProcesses(1);
  registers_.cr4 &= ~cr4::kPcide;
  ASSERT_TRUE(cpu_->mmu().SetRegisters(registers_).ok());
  for (const InvpcidType type :
       {InvpcidType::kAddress, InvpcidType::kContext}) {
    EXPECT_EQ(Invpcid(type, 1).message(),
              "#GP: descriptor.pcid: not 0 with CR4.PCIDE clear");
    EXPECT_TRUE(Invpcid(type, 0).ok());
  }
  EXPECT_TRUE(Invpcid(InvpcidType::kAllWithGlobal, 1).ok());
  EXPECT_TRUE(Invpcid(InvpcidType::kAll, 1).ok());
}

TEST_F(Pcids, WithoutTheFeatureInvpcidIsNoInstruction) {
  AddProcesses(1);
  CpuFeatures features = cpu_->mmu().features();
  features.invpcid = false;
  ASSERT_TRUE(cpu_->mmu().SetFeatures(features).ok());
  const absl::Status status = Invpcid(static_cast<InvpcidType>(4), 1);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(status.message(), "#UD: the vCPU has no INVPCID");
}

TEST_F(Pcids, InvpcidInTheGuestIsACheck) {
  AddProcesses(1);
  RunAll();
  ASSERT_TRUE(cpu_->mmu().EnterGuest().resume());
  EXPECT_DEATH(static_cast<void>(Invpcid(InvpcidType::kAll, 0)),
               "Invpcid by a vCPU that is in the guest");
  cpu_->mmu().ExitGuest();
}

}  // namespace
}  // namespace shadowmmu::testing
