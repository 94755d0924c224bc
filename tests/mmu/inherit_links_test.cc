// What a new root has from the one that its vCPU has left: that a process pays
// no fault for what its kernel maps in all of them, and that nothing is linked
// that a walk would not link.

#include <gtest/gtest.h>

#include <cstdint>

#include "tests/harness/small_vm.h"
#include "tests/mmu/every_mode.h"

namespace shadowmmu::testing {
namespace {

constexpr uint64_t kAll = gpte::kWritable | gpte::kUser;
constexpr Gpa kData{0x40'0000};
// Of an entry that has been used.
constexpr uint64_t kUsed = kAll | gpte::kAccessed;

// The level of the entries of a root page.
Level TopOf(GuestMode mode) {
  switch (mode) {
    case GuestMode::kFourLevel:
      return Level::k512G;
    case GuestMode::kFiveLevel:
      return Level::k256T;
    default:
      return Level::k2M;
  }
}
// In entry 1 of it.
Gva KernelOf(GuestMode mode) {
  switch (mode) {
    case GuestMode::kTwoLevel:
      return Gva(uint64_t{1} << 22);
    case GuestMode::kPae:
      return Gva(uint64_t{1} << 21);
    case GuestMode::kFourLevel:
      return Gva(uint64_t{1} << 39);
    default:
      return Gva(uint64_t{1} << 48);
  }
}

// Two processes with a kernel in both: Start(second) copies the first's entry.
class Inherit : public ::testing::Test {
 protected:
  explicit Inherit(SmallVm::Options options = {.prefetch = 8}) : vm_(options) {
    vm_.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = 4096});
    cpu_ = &vm_.AddVcpu();
  }
  ~Inherit() override { EXPECT_EQ(vm_.Violations(), ""); }

  void Use(GuestMode mode) {
    mode_ = mode;
    kernel_ = KernelOf(mode);
    first_ = &vm_.UseTables(*cpu_, {Gfn(16), 64}, mode);
    ASSERT_TRUE(
        first_->Map(kernel_, kData, Level::k4K, kUsed | gpte::kDirty).ok());
    ExpectFaults(1);
    first_registers_ = cpu_->mmu().registers();
  }
  // The kernel's entry of the first process.
  uint64_t KernelEntry() {
    return first_->Entry(kernel_, TopOf(mode_)).value();
  }
  // A process whose entry for the kernel is `entry` runs now.
  void StartSecond(uint64_t entry) {
    GuestTableBuilder& second = vm_.UseTables(*cpu_, {Gfn(128), 64}, mode_);
    ASSERT_TRUE(second.SetEntry(kernel_, TopOf(mode_), entry).ok());
  }
  void ExpectFaults(uint32_t faults) {
    const TouchResult touched = cpu_->Touch(kernel_, Write());
    ASSERT_TRUE(touched.hit()) << touched;
    EXPECT_EQ(touched.faults, faults);
    EXPECT_EQ(touched.hpa, ToHpa(vm_.PfnOf(ToGfn(kData))));
  }
  // The vCPU's root is loaded.
  void Enter() {
    ASSERT_TRUE(cpu_->mmu().EnterGuest().resume());
    cpu_->mmu().ExitGuest();
  }
  uint64_t Inherited() { return vm_.mmu().GetStats().links_inherited; }

  SmallVm vm_;
  GuestVcpu* cpu_ = nullptr;
  GuestTableBuilder* first_ = nullptr;
  PagingRegisters first_registers_;
  GuestMode mode_ = GuestMode::kFourLevel;
  Gva kernel_;
};

class InheritInEveryMode : public Inherit,
                           public ::testing::WithParamInterface<GuestMode> {
 protected:
  InheritInEveryMode() { Use(GetParam()); }
};
INSTANTIATE_TEST_SUITE_P(Modes, InheritInEveryMode, kEveryMode, NameOfMode);

TEST_P(InheritInEveryMode, WhatBothProcessesNameCostsNoFault) {
  StartSecond(KernelEntry());
  ExpectFaults(0);
  EXPECT_EQ(Inherited(), 1u);
}

TEST_P(InheritInEveryMode, AnEntryThatNobodyUsedIsLeftToAWalkThatSetsItsBit) {
  StartSecond(KernelEntry() & ~gpte::kAccessed);
  ExpectFaults(1);
  EXPECT_EQ(Inherited(), 0u);
}

TEST_P(InheritInEveryMode, OtherRightsAreAnotherPage) {
  StartSecond(KernelEntry() & ~gpte::kUser);
  Enter();
  EXPECT_EQ(Inherited(), 0u);
}

TEST_P(InheritInEveryMode, AnotherTableIsAnotherPage) {
  constexpr Gfn kOther{100};
  StartSecond((KernelEntry() & ~gpte::kAddress) | ToGpa(kOther).value());
  Enter();
  EXPECT_EQ(Inherited(), 0u);
}

TEST_P(InheritInEveryMode, WhatIsNotPresentIsNotLinked) {
  StartSecond(KernelEntry() & ~gpte::kPresent);
  Enter();
  EXPECT_EQ(Inherited(), 0u);
}

// ---- What does not depend on the mode ----

TEST_F(Inherit, ReservedBitsFault) {
  Use(GuestMode::kFourLevel);
  StartSecond(KernelEntry() | gpte::kPageSize);
  EXPECT_TRUE(
      cpu_->Touch(kernel_, Read()).EndedAs(FaultOutcome::Kind::kGuestFault));
  EXPECT_EQ(Inherited(), 0u);
}

TEST_F(Inherit, ALargePageIsNoLink) {
  Use(GuestMode::kPae);
  // Its page table lies where a large page can: the entries differ in PS alone.
  constexpr Gfn kTable{PagesPerEntry(Level::k2M)};
  first_->SetStore(&vm_.tracked());
  ASSERT_TRUE(first_->SetTable(kernel_, Level::k2M, kTable).ok());
  ASSERT_TRUE(first_->Map(kernel_, kData, Level::k4K, kUsed).ok());
  ExpectFaults(1);
  StartSecond(KernelEntry() | gpte::kPageSize);
  Enter();
  EXPECT_EQ(Inherited(), 0u);
}

TEST_F(Inherit, WhatIsOutOfStepIsLeftOut) {
  Use(GuestMode::kPae);  // the root's entries lead to page tables
  // The guest writes the page table, which goes unsync.
  GuestVcpu& writer = vm_.AddVcpu();
  const Gpa entry = first_->EntryAddress(kernel_, Level::k4K).value();
  ASSERT_TRUE(writer.Touch(Gva(entry.value()), Write()).hit());
  ASSERT_EQ(vm_.mmu().GetStats().unsync_pages, 1u);
  StartSecond(KernelEntry());
  Enter();
  EXPECT_EQ(Inherited(), 0u);
}

TEST_F(Inherit, NothingIsInheritedOverABump) {
  Use(GuestMode::kFourLevel);
  StartSecond(KernelEntry());
  vm_.mmu().InvalidateAll();
  Enter();
  EXPECT_EQ(Inherited(), 0u);
}

TEST_F(Inherit, NoMoreThanTheirMost) {
  Use(GuestMode::kFourLevel);
  const uint64_t entry = KernelEntry();
  for (uint64_t i = 2; i < 102; ++i) {
    kernel_ = Gva(i << 39);
    ASSERT_TRUE(first_->SetEntry(kernel_, Level::k512G, entry).ok());
    ExpectFaults(1);
  }
  StartSecond(entry);
  GuestTableBuilder& third = vm_.UseTables(*cpu_, {Gfn(256), 16}, mode_);
  for (uint64_t i = 2; i < 102; ++i) {
    ASSERT_TRUE(third.SetEntry(Gva(i << 39), Level::k512G, entry).ok());
  }
  // The vCPU has not run on the second: its last root is the first.
  Enter();
  EXPECT_EQ(Inherited(), 32u);
}

class InheritNothing : public Inherit {
 protected:
  InheritNothing() : Inherit(SmallVm::Options{.prefetch = 0}) {}
};

TEST_F(InheritNothing, WithoutPrefetchEachLinkHasItsFault) {
  Use(GuestMode::kFourLevel);
  StartSecond(KernelEntry());
  ExpectFaults(1);
  EXPECT_EQ(Inherited(), 0u);
}

}  // namespace
}  // namespace shadowmmu::testing
