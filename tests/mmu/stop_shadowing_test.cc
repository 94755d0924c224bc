// Mmu::StopShadowing: a page that was a table once can be stored into with no
// exit, and one that a vCPU walks from stays a table.

#include <gtest/gtest.h>

#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {
namespace {

constexpr uint64_t kAll = gpte::kWritable | gpte::kUser;
constexpr Gva kGva{0x5000};
constexpr Gpa kData{0x40'0000};

class StopShadowing : public ::testing::Test {
 protected:
  StopShadowing() : vm_(SmallVm::Options{.unsync = false}) {
    vm_.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = 4096});
    cpu_ = &vm_.AddVcpu();
    writer_ = &vm_.AddVcpu();
    tables_ = &vm_.UseTables(*cpu_, {Gfn(16), 64});
    EXPECT_TRUE(tables_->Map(kGva, kData, Level::k4K, kAll).ok());
    Run();
  }
  ~StopShadowing() override { EXPECT_EQ(vm_.Violations(), ""); }

  void Run() { EXPECT_TRUE(cpu_->Touch(kGva, Write()).hit()); }
  Gfn Table(Level level) {
    return ToGfn(tables_->EntryAddress(kGva, level).value());
  }
  // Can the guest store into the page with no exit?
  bool Writable(Gfn gfn) {
    return writer_->Touch(Gva(ToGpa(gfn).value()), Write()).hit();
  }

  SmallVm vm_;
  GuestVcpu* cpu_ = nullptr;
  GuestVcpu* writer_ = nullptr;  // with paging off
  GuestTableBuilder* tables_ = nullptr;
};

TEST_F(StopShadowing, AfterItStoresNeedNoExit) {
  for (const Level level : {Level::k4K, Level::k2M, Level::k1G}) {
    const Gfn table = Table(level);
    ASSERT_FALSE(Writable(table));
    EXPECT_TRUE(vm_.mmu().StopShadowing(table));
    EXPECT_TRUE(Writable(table));
  }
}

TEST_F(StopShadowing, ATableThatIsUsedAgainIsOneAgain) {
  ASSERT_TRUE(vm_.mmu().StopShadowing(Table(Level::k4K)));
  ASSERT_TRUE(Writable(Table(Level::k4K)));
  Run();
  EXPECT_FALSE(Writable(Table(Level::k4K)));
}

TEST_F(StopShadowing, ACurrentRootStays) {
  const Gfn root = Table(Level::k512G);
  EXPECT_FALSE(vm_.mmu().StopShadowing(root));
  EXPECT_FALSE(Writable(root));
  const uint64_t faults = vm_.mmu().GetStats().faults;
  Run();
  EXPECT_EQ(vm_.mmu().GetStats().faults, faults) << "it was walked all along";
}

TEST_F(StopShadowing, ARootThatWasLeftGoes) {
  const Gfn root = Table(Level::k512G);
  const PagingRegisters registers = cpu_->mmu().registers();
  vm_.UseTables(*cpu_, {Gfn(128), 64});
  EXPECT_TRUE(vm_.mmu().StopShadowing(root));
  EXPECT_TRUE(Writable(root));
  ASSERT_TRUE(cpu_->mmu().SetRegisters(registers).ok());
  Run();
}

TEST_F(StopShadowing, ItReachesBothAddressSpaces) {
  SlotSpec smm = *vm_.mmu().FindSlot(AddressSpace::kNormal, SlotId{0});
  smm.space = AddressSpace::kSmm;
  vm_.AddSlot(smm);
  ASSERT_TRUE(cpu_->mmu().SetAddressSpace(AddressSpace::kSmm).ok());
  Run();
  EXPECT_TRUE(vm_.mmu().StopShadowing(Table(Level::k4K)));
  EXPECT_TRUE(Writable(Table(Level::k4K)));
}

TEST_F(StopShadowing, WhatIsNoTableIsWritableAnyhow) {
  EXPECT_TRUE(vm_.mmu().StopShadowing(ToGfn(kData)));
  EXPECT_TRUE(vm_.mmu().StopShadowing(Gfn(uint64_t{1} << 50)));
  EXPECT_EQ(vm_.mmu().GetStats().pages_zapped, 0u);
}

}  // namespace
}  // namespace shadowmmu::testing
