// A guest that switches between processes while tables of theirs are unsync:
// what a root brings in step when its vCPU comes back to it.

#include <gtest/gtest.h>

#include <cstdint>
#include <ostream>
#include <string>

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
    WriterMutexLock held(&vm_.mmu().internals().lock);
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

// ---- PCIDs: a root is flushed while its vCPU is at another one ----

constexpr uint64_t kFirstPcid = 1;
constexpr uint64_t kSecondPcid = 2;

// What flushes kFirstPcid while kSecondPcid is current, whose CR3 is `second`.
struct PcidFlush {
  std::string name;
  absl::Status (*flush)(VcpuMmu& mmu, uint64_t second);
};
std::ostream& operator<<(std::ostream& os, const PcidFlush& flush) {
  return os << flush.name;
}

class SyncOfAFlushedPcid : public SyncOnSwitch,
                           public ::testing::WithParamInterface<PcidFlush> {
 protected:
  SyncOfAFlushedPcid() {
    PagingRegisters registers = cpu_->mmu().registers();
    registers.cr4 |= cr4::kPcide;
    EXPECT_TRUE(cpu_->mmu().SetRegisters(registers).ok());
    first_ |= kFirstPcid;
    second_ |= kSecondPcid;
  }
  void Keeping(uint64_t cr3) { Switch(cr3 | cr3::kNoFlush); }
};

// The switch itself asks for nothing.
TEST_P(SyncOfAFlushedPcid, IsDueWhenTheVcpuComesBackThoughItKeepsAll) {
  Keeping(first_);
  ExpectAt(kGva, kData);
  Edit(kGva, kData + 1);
  Keeping(second_);
  ExpectAt(kGva, kData + 8);
  ASSERT_TRUE(GetParam().flush(cpu_->mmu(), second_).ok());
  ExpectAt(kGva, kData + 8);
  ExpectCounts(1, 1, 0);
  Keeping(first_);
  ExpectAt(kGva, kData + 1);
  ExpectCounts(0, 1, 1);
}

INSTANTIATE_TEST_SUITE_P(
    By, SyncOfAFlushedPcid,
    ::testing::Values(PcidFlush{"InvpcidOfTheContext",
                                [](VcpuMmu& mmu, uint64_t /*second*/) {
                                  return mmu.Invpcid(InvpcidType::kContext,
                                                     {.pcid = kFirstPcid});
                                }},
                      PcidFlush{"InvpcidOfAll",
                                [](VcpuMmu& mmu, uint64_t /*second*/) {
                                  return mmu.Invpcid(InvpcidType::kAll, {});
                                }},
                      PcidFlush{"InvpcidOfAllWithGlobal",
                                [](VcpuMmu& mmu, uint64_t /*second*/) {
                                  return mmu.Invpcid(
                                      InvpcidType::kAllWithGlobal, {});
                                }},
                      PcidFlush{"ACr3WriteToAnotherTableOfThePcid",
                                [](VcpuMmu& mmu, uint64_t second) {
                                  return mmu.WriteCr3((second & ~cr3::kPcid) |
                                                      kFirstPcid);
                                }},
                      PcidFlush{"ALoadOfRegisters",
                                [](VcpuMmu& mmu, uint64_t /*second*/) {
                                  PagingRegisters registers = mmu.registers();
                                  registers.cr4 ^= cr4::kPge;
                                  return mmu.SetRegisters(registers);
                                }}),
    [](const ::testing::TestParamInfo<PcidFlush>& flush) {
      return flush.param.name;
    });

}  // namespace
}  // namespace shadowmmu::testing
