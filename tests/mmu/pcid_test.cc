// A guest with PCIDs: which of its roots a vCPU comes back to, what of them its
// flushes reach, and what INVPCID refuses.
//
// The host's edits of a guest's tables stand for what a CPU may have cached:
// the library does not see them, and goes on with what it has until a flush
// says that it must not.

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "src/mmu/vcpu_state.h"
#include "src/mmu/vm.h"
#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {
namespace {

using Kind = FaultOutcome::Kind;

constexpr uint64_t kAll = gpte::kWritable | gpte::kUser;
constexpr Gva kGva{0x5000};
constexpr Gfn kData{1024};
// What the host makes of kData + i.
constexpr uint64_t kEdited = 64;

// A vCPU with CR4.PCIDE, and processes with tables of their own: process i has
// PCID i + 1, and page kData + i at kGva.
class Pcids : public ::testing::Test {
 protected:
  Pcids() {
    vm_.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = 2048});
    cpu_ = &vm_.AddVcpu();
  }
  ~Pcids() override { EXPECT_EQ(vm_.Violations(), ""); }

  // The vCPU gets `count` processes, and is in none of them.
  void AddProcesses(int count, GuestMode mode = GuestMode::kFourLevel) {
    for (int i = 0; i < count; ++i) {
      tables_.push_back(
          &vm_.UseTables(*cpu_, {Gfn(16 + 16 * tables_.size()), 16}, mode));
      Map(tables_.size() - 1, kData + (tables_.size() - 1));
    }
    registers_ = cpu_->mmu().registers();
    registers_.cr3 = 0;
    registers_.cr4 |= cr4::kPcide;
    ASSERT_TRUE(cpu_->mmu().SetRegisters(registers_).ok());
  }
  // With no trap.
  void Map(uint64_t i, Gfn gfn) {
    ASSERT_TRUE(tables_[i]->Map(kGva, ToGpa(gfn), Level::k4K, kAll).ok());
  }
  void HostEdits(uint64_t i) { Map(i, kData + i + kEdited); }

  uint64_t Cr3Of(uint64_t i) const {
    return tables_[i]->root().value() | (i + 1);
  }
  void WriteCr3(uint64_t cr3) {
    const absl::Status status = cpu_->mmu().WriteCr3(cr3);
    ASSERT_TRUE(status.ok()) << status;
  }
  void Flushing(uint64_t i) { WriteCr3(Cr3Of(i)); }
  void Keeping(uint64_t i) { WriteCr3(Cr3Of(i) | cr3::kNoFlush); }
  // Process i touches its page; the entry is what it was at first.
  TouchResult ExpectPage(uint64_t i, bool edited = false) {
    const TouchResult touched = cpu_->Touch(kGva, Write());
    EXPECT_TRUE(touched.hit()) << "process " << i << ": " << touched;
    EXPECT_EQ(touched.hpa, ToHpa(vm_.PfnOf(kData + i + (edited ? kEdited : 0))))
        << "process " << i;
    EXPECT_EQ(vm_.Violations(), "");
    return touched;
  }
  // Each process runs once, the last one last.
  void RunAll() {
    for (uint64_t i = 0; i < tables_.size(); ++i) {
      Keeping(i);
      ExpectPage(i);
    }
  }
  absl::Status Invpcid(InvpcidType type, uint64_t pcid, Gva gva = kGva) {
    return cpu_->mmu().Invpcid(type, {.pcid = pcid, .gva = gva});
  }
  // Is the previous root of process i flushed? nullopt: there is none.
  std::optional<bool> Flushed(uint64_t i) {
    Vm& vm = vm_.mmu().internals();
    MutexLock held(&vm.lock);
    const VcpuState& vcpu = *vm.vcpus[0];
    SpinLockHolder roots_held(&vcpu.roots_lock);
    for (const PreviousRoot& previous : vcpu.previous) {
      if (!previous.root.empty() &&
          previous.key.table == ToGfn(tables_[i]->root()) &&
          previous.key.pcid == static_cast<Pcid>(i + 1)) {
        return previous.flushed;
      }
    }
    return std::nullopt;
  }
  uint64_t Hits() { return vm_.mmu().GetStats().root_cache_hits; }

  SmallVm vm_;
  GuestVcpu* cpu_ = nullptr;
  std::vector<GuestTableBuilder*> tables_;
  PagingRegisters registers_;  // CR3 is 0
};

// ---- CR3 ----

TEST_F(Pcids, Bit63OfTheOperandIsNotStored) {
  AddProcesses(1);
  Keeping(0);
  EXPECT_EQ(cpu_->mmu().registers().cr3, Cr3Of(0));
  ExpectPage(0);
}

TEST_F(Pcids, WithoutThemBit63IsReserved) {
  AddProcesses(1);
  registers_.cr4 &= ~cr4::kPcide;
  ASSERT_TRUE(cpu_->mmu().SetRegisters(registers_).ok());
  const absl::Status status = cpu_->mmu().WriteCr3(Cr3Of(0) | cr3::kNoFlush);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "#GP: CR3 bits at or above MAXPHYADDR, 48");
  EXPECT_EQ(cpu_->mmu().registers(), registers_);
}

TEST_F(Pcids, AStateCannotHoldBit63NorTheOperandOtherHighBits) {
  AddProcesses(1);
  registers_.cr3 = Cr3Of(0);
  ASSERT_TRUE(cpu_->mmu().SetRegisters(registers_).ok());
  PagingRegisters wrong = registers_;
  wrong.cr3 |= cr3::kNoFlush;
  EXPECT_EQ(cpu_->mmu().SetRegisters(wrong).message(),
            "#GP: CR3 bits at or above MAXPHYADDR, 48");
  for (const unsigned bit : {48u, 52u, 62u}) {
    const uint64_t operand = Cr3Of(0) | uint64_t{1} << bit;
    EXPECT_EQ(cpu_->mmu().WriteCr3(operand | cr3::kNoFlush).code(),
              absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(cpu_->mmu().WriteCr3(operand).code(),
              absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(cpu_->mmu().registers(), registers_);
}

TEST_F(Pcids, TheirBitsAreNoAddressBits) {
  AddProcesses(1);
  WriteCr3(tables_[0]->root().value() | 0xfff);
  ExpectPage(0);
}

TEST_F(Pcids, AWriteThatKeepsAllDoesNotFlush) {
  AddProcesses(1);
  RunAll();
  Keeping(0);
  EXPECT_TRUE(ExpectPage(0).from_tlb);
  Flushing(0);
  EXPECT_FALSE(ExpectPage(0).from_tlb);
}

// What it has cached belongs to the other root, though the guest keeps it all.
TEST_F(Pcids, ASwitchToAnotherRootFlushesTheWalkingCpu) {
  AddProcesses(2);
  RunAll();
  const uint64_t before = vm_.host().flushes();
  Keeping(0);
  ExpectPage(0);
  EXPECT_EQ(vm_.host().flushes(), before + 1);
}

// ---- Roots ----

TEST_F(Pcids, EachComesBackToItsOwnRoot) {
  AddProcesses(4);
  RunAll();
  const uint64_t before = Hits();
  for (uint64_t round = 0; round < 12; ++round) {
    const uint64_t i = round % 4;
    round % 2 != 0 ? Keeping(i) : Flushing(i);
    EXPECT_EQ(ExpectPage(i).faults, 0u);
  }
  EXPECT_EQ(Hits() - before, 12u);
}

TEST_F(Pcids, OneTableUnderTwoOfThemIsTwoRootsAndOneShadowPage) {
  AddProcesses(1);
  const uint64_t root = tables_[0]->root().value();
  WriteCr3(root | 1);
  ExpectPage(0);
  const uint64_t pages = vm_.mmu().GetStats().shadow_pages;
  const Hpa walked = cpu_->mmu().HardwareState().root;
  WriteCr3(root | 2);
  EXPECT_FALSE(ExpectPage(0).from_tlb);
  EXPECT_EQ(vm_.mmu().GetStats().shadow_pages, pages);
  EXPECT_EQ(cpu_->mmu().HardwareState().root, walked);
  const uint64_t before = Hits();
  WriteCr3(root | 1 | cr3::kNoFlush);
  ExpectPage(0);
  EXPECT_EQ(Hits() - before, 1u);
}

// ---- What a guest may keep ----

TEST_F(Pcids, WithoutAFlushWhatWasCachedMayStay) {
  AddProcesses(2);
  RunAll();
  HostEdits(0);
  Keeping(0);
  ExpectPage(0, /*edited=*/false);
}

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

// It drops global translations, which are those of every PCID.
TEST_F(Pcids, InvlpgReachesEveryPcid) {
  AddProcesses(3);
  RunAll();
  for (uint64_t i = 0; i < 3; ++i) HostEdits(i);
  cpu_->mmu().Invlpg(kGva);
  for (uint64_t i = 0; i < 3; ++i) {
    Keeping(i);
    ExpectPage(i, /*edited=*/true);
  }
}

TEST_F(Pcids, BothReachOthersWhereThereIsNoRootNow) {
  AddProcesses(2);
  RunAll();
  HostEdits(0);
  HostEdits(1);
  WriteCr3(ToGpa(Gfn(0x9'9999)).value() | 3);
  ASSERT_TRUE(Invpcid(InvpcidType::kAddress, 1).ok());
  EXPECT_EQ(cpu_->mmu().EnterGuest().kind, Kind::kMemoryFault);
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

// ---- What counts as flushed ----

TEST_F(Pcids, ARootThatWasLeftIsNotFlushed) {
  AddProcesses(3);
  RunAll();
  EXPECT_EQ(Flushed(0), false);
  EXPECT_EQ(Flushed(1), false);
  EXPECT_EQ(Flushed(2), std::nullopt) << "it is the current one";
}

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

TEST_F(Pcids, ACr3WriteFlushesTheOtherTablesOfItsPcid) {
  AddProcesses(3);
  RunAll();
  WriteCr3(tables_[1]->root().value() | 1);
  EXPECT_EQ(Flushed(0), true);
  EXPECT_EQ(Flushed(1), false);
  EXPECT_EQ(Flushed(2), false);
}

TEST_F(Pcids, EveryOtherRegisterWriteFlushesEveryRoot) {
  AddProcesses(2);
  const auto expect_flushed = [&](const char* by) {
    SCOPED_TRACE(by);
    EXPECT_EQ(Flushed(0), true);
    RunAll();
    EXPECT_EQ(Flushed(0), false);
  };
  RunAll();
  registers_.cr3 = Cr3Of(1);
  registers_.cr4 |= cr4::kPge;
  ASSERT_TRUE(cpu_->mmu().SetRegisters(registers_).ok());
  expect_flushed("CR4.PGE");
  CpuFeatures features = cpu_->mmu().features();
  features.pse36 = false;
  ASSERT_TRUE(cpu_->mmu().SetFeatures(features).ok());
  expect_flushed("features");
  ASSERT_TRUE(cpu_->mmu().SetAddressSpace(AddressSpace::kSmm).ok());
  ASSERT_TRUE(cpu_->mmu().SetAddressSpace(AddressSpace::kNormal).ok());
  expect_flushed("the address space");
}

// A sync is served on entry: a root that is left before has not seen it.
TEST_F(Pcids, ARootThatIsLeftBeforeItsSyncWasServedIsFlushed) {
  AddProcesses(2);
  RunAll();
  {
    Vm& vm = vm_.mmu().internals();
    MutexLock held(&vm.lock);
    vm.vcpus[0]->requests.fetch_or(request::kSyncRoot);
  }
  Keeping(0);
  EXPECT_EQ(Flushed(1), true);
}

TEST_F(Pcids, ALockOfTheVmIsNotTaken) {
  AddProcesses(2);
  RunAll();
  MutexLock held(&vm_.mmu().internals().lock);
  Keeping(0);
  ASSERT_TRUE(Invpcid(InvpcidType::kContext, 2).ok());
  ASSERT_TRUE(Invpcid(InvpcidType::kAll, 0).ok());
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
