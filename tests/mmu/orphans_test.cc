// Tables that a guest lets go of: which of its stores say so, and that whoever
// gets their memory next needs no exit.

#include <gtest/gtest.h>

#include <cstdint>
#include <span>

#include "src/mmu/vm.h"
#include "tests/harness/small_vm.h"
#include "tests/mmu/every_mode.h"

namespace shadowmmu::testing {
namespace {

constexpr uint64_t kAll = gpte::kWritable | gpte::kUser;
constexpr Gva kGva{0x5000};
constexpr Gpa kData{0x40'0000};

// A guest that runs on tables which map kGva; its stores into them are
// emulated.
class Orphan : public ::testing::Test {
 protected:
  explicit Orphan(SmallVm::Options options = {}) : vm_(options) {
    vm_.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = 4096});
    cpu_ = &vm_.AddVcpu();
  }
  ~Orphan() override { EXPECT_EQ(vm_.Violations(), ""); }

  void Use(GuestMode mode) {
    tables_ = &vm_.UseTables(*cpu_, {Gfn(16), 64}, mode);
    ASSERT_TRUE(tables_->Map(kGva, kData, Level::k4K, kAll).ok());
    tables_->SetStore(&vm_.tracked());
    Run(kGva);
  }
  void Run(Gva gva) {
    const TouchResult touched = cpu_->Touch(gva, Write());
    EXPECT_TRUE(touched.hit()) << touched;
  }
  Gfn Table(Level level, Gva gva = kGva) {
    return ToGfn(tables_->EntryAddress(gva, level).value());
  }
  uint64_t Entry(Level level) { return tables_->Entry(kGva, level).value(); }
  void Store(Level level, uint64_t entry, Gva gva = kGva) {
    ASSERT_TRUE(tables_->SetEntry(gva, level, entry).ok());
    EXPECT_EQ(vm_.Violations(), "");
  }
  bool Shadowed(Gfn table) {
    Vm& vm = vm_.mmu().internals();
    const VmLock held(vm);
    bool shadowed = false;
    vm.pages.ForEachShadowing(table, [&](TableIndex) { shadowed = true; });
    return shadowed;
  }
  uint64_t Unlinked() { return vm_.mmu().GetStats().pages_unlinked; }

  SmallVm vm_;
  GuestVcpu* cpu_ = nullptr;
  GuestTableBuilder* tables_ = nullptr;
};

class OrphanInEveryMode : public Orphan,
                          public ::testing::WithParamInterface<GuestMode> {
 protected:
  OrphanInEveryMode() { Use(GetParam()); }
};
INSTANTIATE_TEST_SUITE_P(Modes, OrphanInEveryMode, kEveryMode, NameOfMode);

TEST_P(OrphanInEveryMode, ATableWhoseEntryIsClearedIsShadowedNoLonger) {
  // Of 4-byte entries it may have two shadow pages.
  if (GetParam() == GuestMode::kTwoLevel) {
    ASSERT_TRUE(tables_->Map(Gva(0x20'5000), kData, Level::k4K, kAll).ok());
    Run(Gva(0x20'5000));
  }
  const Gfn table = Table(Level::k4K);
  Store(Level::k2M, 0);
  EXPECT_FALSE(Shadowed(table));
  EXPECT_EQ(Unlinked(), GetParam() == GuestMode::kTwoLevel ? 2u : 1u);
  EXPECT_TRUE(
      cpu_->Touch(kGva, Read()).EndedAs(FaultOutcome::Kind::kGuestFault));
}

TEST_P(OrphanInEveryMode, SoIsOneThatAnotherTableTakesThePlaceOf) {
  const Gfn table = Table(Level::k4K);
  constexpr Gfn kOther{100};
  Store(Level::k2M,
        (Entry(Level::k2M) & ~gpte::kAddress) | ToGpa(kOther).value());
  EXPECT_FALSE(Shadowed(table));
}

// As a kernel looks for tables that are not used.
TEST_P(OrphanInEveryMode, OneThatIsStillNamedStays) {
  const Gfn table = Table(Level::k4K);
  const uint64_t created = vm_.mmu().GetStats().pages_created;
  for (int i = 0; i < 10; ++i) {
    Store(Level::k2M, Entry(Level::k2M) & ~gpte::kAccessed);
    EXPECT_TRUE(Shadowed(table));
    Run(kGva);
    EXPECT_NE(Entry(Level::k2M) & gpte::kAccessed, 0u);
  }
  EXPECT_EQ(vm_.mmu().GetStats().pages_created, created);
}

TEST_P(OrphanInEveryMode, OneThatAnotherEntryLinksStays) {
  constexpr Gva kAlias{0x80'5000};
  const Gfn table = Table(Level::k4K);
  ASSERT_TRUE(tables_->SetTable(kAlias, Level::k2M, table).ok());
  Run(kAlias);
  Store(Level::k2M, 0);
  EXPECT_TRUE(Shadowed(table));
  Run(kAlias);
  Store(Level::k2M, 0, kAlias);
  EXPECT_FALSE(Shadowed(table));
}

TEST_P(OrphanInEveryMode, WhoGetsItsMemoryStoresWithNoExit) {
  const Gfn table = Table(Level::k4K);
  Store(Level::k2M, 0);
  GuestVcpu& writer = vm_.AddVcpu();
  for (uint64_t at = 0; at < kPageSize; at += 512) {
    EXPECT_TRUE(writer.Touch(Gva(ToGpa(table).value() + at), Write()).hit());
  }
}

// ---- What does not depend on the mode ----

// A directory of 4-byte entries has four shadow pages, one a GiB: the entry
// behind a link of the others is not where one counts from their beginning.
TEST_F(Orphan, OneThatIsStillNamedStaysInEveryGibOf32Bits) {
  Use(GuestMode::kTwoLevel);
  for (uint64_t gib = 1; gib < 4; ++gib) {
    const Gva gva((gib << 30) + 0x5000);
    ASSERT_TRUE(tables_->Map(gva, kData, Level::k4K, kAll).ok());
    Run(gva);
    const Gfn table = Table(Level::k4K, gva);
    const uint64_t entry = tables_->Entry(gva, Level::k2M).value();
    Store(Level::k2M, entry & ~gpte::kAccessed, gva);
    EXPECT_TRUE(Shadowed(table)) << gib;
    EXPECT_EQ(Unlinked(), gib - 1);
    Run(gva);
    Store(Level::k2M, 0, gva);
    EXPECT_FALSE(Shadowed(table)) << gib;
  }
}

TEST_F(Orphan, OneThatIsARootStays) {
  Use(GuestMode::kFourLevel);
  // The root names itself, as Windows has it.
  const Gfn root = Table(Level::k512G);
  constexpr Gva kSelf{uint64_t{1} << 39};
  ASSERT_TRUE(tables_->SetTable(kSelf, Level::k512G, root).ok());
  Run(kGva);
  const TouchResult touched = cpu_->Touch(kSelf, Read());
  EXPECT_TRUE(touched.hit()) << touched;
  Store(Level::k512G, 0, kSelf);
  EXPECT_TRUE(Shadowed(root));
  const uint64_t faults = vm_.mmu().GetStats().faults;
  Run(kGva);
  EXPECT_EQ(vm_.mmu().GetStats().faults, faults) << "it was walked all along";
}

TEST_F(Orphan, WhatLiesBelowOneIsLeftAlone) {
  Use(GuestMode::kFourLevel);
  const Gfn directory = Table(Level::k2M);
  const Gfn table = Table(Level::k4K);
  Store(Level::k1G, 0);
  EXPECT_FALSE(Shadowed(directory));
  EXPECT_TRUE(Shadowed(table));
}

class OrphanWithoutFlooding : public Orphan {
 protected:
  OrphanWithoutFlooding() : Orphan(SmallVm::Options{.write_flooding = 0}) {}
};

TEST_F(OrphanWithoutFlooding, TablesAreShadowedForEver) {
  Use(GuestMode::kFourLevel);
  const Gfn table = Table(Level::k4K);
  Store(Level::k2M, 0);
  EXPECT_TRUE(Shadowed(table));
  EXPECT_EQ(Unlinked(), 0u);
}

}  // namespace
}  // namespace shadowmmu::testing
