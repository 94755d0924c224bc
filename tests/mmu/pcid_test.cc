// A guest with PCIDs: which of its roots a vCPU comes back to, and what of them
// its writes of registers and INVLPG flush.

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>

#include "src/mmu/vcpu_state.h"
#include "src/mmu/vm.h"
#include "tests/mmu/pcid_fixture.h"

namespace shadowmmu::testing {
namespace {

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

// ---- What counts as flushed ----

TEST_F(Pcids, ARootThatWasLeftIsNotFlushed) {
  AddProcesses(3);
  RunAll();
  EXPECT_EQ(Flushed(0), false);
  EXPECT_EQ(Flushed(1), false);
  EXPECT_EQ(Flushed(2), std::nullopt) << "it is the current one";
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
    WriterMutexLock held(&vm.lock);
    vm.vcpus[0]->requests.fetch_or(request::kSyncRoot);
  }
  Keeping(0);
  EXPECT_EQ(Flushed(1), true);
}

TEST_F(Pcids, ALockOfTheVmIsNotTaken) {
  AddProcesses(2);
  RunAll();
  WriterMutexLock held(&vm_.mmu().internals().lock);
  Keeping(0);
  ASSERT_TRUE(Invpcid(InvpcidType::kContext, 2).ok());
  ASSERT_TRUE(Invpcid(InvpcidType::kAll, 0).ok());
}

}  // namespace
}  // namespace shadowmmu::testing
