// A guest that switches between processes while tables of theirs are unsync:
// what a root brings in step when its vCPU comes back to it.

#include <gtest/gtest.h>

#include <cstdint>

#include "src/mmu/vm.h"
#include "tests/mmu/unsync_fixture.h"

namespace shadowmmu::testing {
namespace {

class SyncOnSwitch : public UnsyncVm {
 protected:
  explicit SyncOnSwitch(SmallVm::Options options = {}) : UnsyncVm(options) {
    first_ = cpu_->mmu().registers().cr3;
    Map(kGva, kData);
    GuestTableBuilder& second = vm_.UseTables(*cpu_, {Gfn(256), 16});
    second_ = second.root().value();
    EXPECT_TRUE(second.Map(kGva, ToGpa(kData + 8), Level::k4K, kAll).ok());
    EXPECT_TRUE(cpu_->mmu().WriteCr3(first_).ok());
  }
  void Switch(uint64_t cr3) { ASSERT_TRUE(cpu_->mmu().WriteCr3(cr3).ok()); }

  uint64_t first_ = 0;
  uint64_t second_ = 0;
};

TEST_F(SyncOnSwitch, ComingBackToAPreviousRootSyncsIt) {
  ExpectAt(kGva, kData);
  Edit(kGva, kData + 1);
  Switch(second_);
  ExpectAt(kGva, kData + 8);
  ExpectCounts(1, 1, 0);  // nothing of the other process
  Switch(first_);
  ExpectAt(kGva, kData + 1);
  ExpectCounts(0, 1, 1);
}

TEST_F(SyncOnSwitch, TheRequestOfALeftRootDoesNoHarm) {
  ExpectAt(kGva, kData);
  Edit(kGva, kData + 1);
  FlushAll();
  Switch(second_);
  ExpectAt(kGva, kData + 8);
  Switch(first_);
  ExpectAt(kGva, kData + 1);
  ExpectCounts(0, 1, 1);
}

TEST_F(SyncOnSwitch, TakesNoLockOfTheVmWhereNothingIsUnsync) {
  ExpectAt(kGva, kData);
  Switch(second_);
  ExpectAt(kGva, kData + 8);
  Switch(first_);
  Edit(kGva, kData + 1);
  {
    // A lock taken twice by one thread is a check, in debug builds.
    MutexLock held(&vm_.mmu().internals().lock);
    Switch(second_);
    Run(*cpu_);
    FlushAll();
    Run(*cpu_);
    // Nor does the register write that finds something; the entry does.
    Switch(first_);
    EXPECT_TRUE(AskedToSync(0));
  }
  ExpectAt(kGva, kData + 1);
  ExpectCounts(0, 1, 1);
}

class SyncOfNewRoots : public SyncOnSwitch {
 protected:
  SyncOfNewRoots() : SyncOnSwitch({.previous_roots = 0}) {}
};

// The root is let go of and made anew, of the pages that are there.
TEST_F(SyncOfNewRoots, ARootOfKeptPagesIsSynced) {
  ExpectAt(kGva, kData);
  Edit(kGva, kData + 1);
  Switch(second_);
  ExpectAt(kGva, kData + 8);
  ExpectCounts(1, 1, 0);
  Switch(first_);
  ExpectAt(kGva, kData + 1);
  ExpectCounts(0, 1, 1);
}

}  // namespace
}  // namespace shadowmmu::testing
