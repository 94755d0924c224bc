// The roots that a vCPU keeps across CR3 writes: what a switch to one of them
// costs, and that none is used that must not be.

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "src/mmu/vm.h"
#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {
namespace {

using Kind = FaultOutcome::Kind;

constexpr uint64_t kAll = gpte::kWritable | gpte::kUser;
constexpr Gva kGva{0x5000};
constexpr Gfn kData{1024};

// A vCPU, and processes with tables of their own: process i has page kData + i
// at kGva.
class PreviousRoots : public ::testing::Test {
 protected:
  explicit PreviousRoots(SmallVm::Options options = {}) : vm_(options) {
    vm_.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = 2048});
    cpu_ = &vm_.AddVcpu();
  }
  ~PreviousRoots() override { EXPECT_EQ(vm_.Violations(), ""); }

  void AddProcess(GuestMode mode = GuestMode::kFourLevel) {
    const uint64_t i = registers_.size();
    GuestTableBuilder& tables =
        vm_.UseTables(*cpu_, {Gfn(16 + 16 * i), 16}, mode);
    EXPECT_TRUE(tables.Map(kGva, ToGpa(kData + i), Level::k4K, kAll).ok());
    registers_.push_back(cpu_->mmu().registers());
  }
  // The process runs: it touches its page, in so many faults.
  void Run(uint64_t i, uint32_t faults) {
    ASSERT_TRUE(cpu_->mmu().SetRegisters(registers_[i]).ok());
    const TouchResult touched = cpu_->Touch(kGva, Write());
    ASSERT_TRUE(touched.hit()) << "process " << i << ": " << touched;
    EXPECT_EQ(touched.hpa, ToHpa(vm_.PfnOf(kData + i))) << "process " << i;
    EXPECT_EQ(touched.faults, faults) << "process " << i;
    EXPECT_EQ(vm_.Violations(), "");
  }
  uint64_t Hits() { return vm_.mmu().GetStats().root_cache_hits; }

  SmallVm vm_;
  GuestVcpu* cpu_ = nullptr;
  std::vector<PagingRegisters> registers_;
};

TEST_F(PreviousRoots, FourProcessesAreServedWithoutAFault) {
  for (int i = 0; i < 4; ++i) AddProcess();
  for (uint64_t i = 0; i < 4; ++i) Run(i, 1);
  const uint64_t before = Hits();
  for (uint64_t round = 0; round < 20; ++round) Run(round * 7 % 4, 0);
  // Of 20 switches in the order 0 3 2 1 all but none go to a previous root.
  EXPECT_EQ(Hits() - before, 20u);
}

TEST_F(PreviousRoots, TheOneThatWasUsedLongestAgoGoes) {
  for (int i = 0; i < 5; ++i) AddProcess();
  for (uint64_t i = 0; i < 5; ++i) Run(i, 1);
  uint64_t before = Hits();
  Run(1, 0);
  Run(4, 0);
  EXPECT_EQ(Hits() - before, 2u);
  before = Hits();
  Run(0, 0);
  EXPECT_EQ(Hits() - before, 0u) << "its pages were found by their gfn";
  Run(2, 0);
  EXPECT_EQ(Hits() - before, 0u) << "it went for process 0";
  Run(1, 0);
  EXPECT_EQ(Hits() - before, 1u);
}

TEST_F(PreviousRoots, ASwitchToOneTakesNoLockOfTheVm) {
  AddProcess();
  AddProcess();
  Run(0, 1);
  Run(1, 1);
  {
    // A lock taken twice by one thread is a check, in debug builds.
    WriterMutexLock held(&vm_.mmu().internals().lock);
    ASSERT_TRUE(cpu_->mmu().SetRegisters(registers_[0]).ok());
  }
  Run(0, 0);
}

TEST_F(PreviousRoots, EveryModeComesBackToItsOwn) {
  for (const GuestMode mode : {GuestMode::kTwoLevel, GuestMode::kPae,
                               GuestMode::kFourLevel, GuestMode::kFiveLevel}) {
    AddProcess(mode);
  }
  for (uint64_t i = 0; i < 4; ++i) Run(i, 1);
  const uint64_t before = Hits();
  for (uint64_t round = 0; round < 12; ++round) Run(round * 3 % 4, 0);
  EXPECT_EQ(Hits() - before, 12u);
}

TEST_F(PreviousRoots, TheOtherAddressSpaceHasItsOwn) {
  vm_.AddSlot({.id = SlotId{0},
               .space = AddressSpace::kSmm,
               .base = Gfn(0),
               .pages = 2048});
  AddProcess();
  Run(0, 1);
  const uint64_t before = Hits();
  for (int round = 0; round < 2; ++round) {
    ASSERT_TRUE(cpu_->mmu().SetAddressSpace(AddressSpace::kSmm).ok());
    // The tables of that space are empty.
    EXPECT_TRUE(cpu_->Touch(kGva, Write()).EndedAs(Kind::kGuestFault));
    ASSERT_TRUE(cpu_->mmu().SetAddressSpace(AddressSpace::kNormal).ok());
    Run(0, 0);
  }
  EXPECT_EQ(Hits() - before, 3u);
}

TEST_F(PreviousRoots, NoneIsUsedAfterEverythingWasInvalidated) {
  AddProcess();
  AddProcess();
  for (const bool zap : {false, true}) {
    Run(0, zap ? 0 : 1);
    Run(1, zap ? 0 : 1);
    zap ? vm_.mmu().InvalidateAll(Strategy::kZapAll)
        : vm_.mmu().BumpGeneration();
    Run(0, 1);
    Run(1, 1);
    while (vm_.mmu().ReclaimObsolete(100).more) {
    }
    EXPECT_EQ(vm_.mmu().GetStats().obsolete_pages, 0u)
        << "a previous root pins nothing once its vCPU has run";
  }
}

TEST_F(PreviousRoots, NoneOutlivesTheSlotOfItsTables) {
  vm_.AddSlot({.id = SlotId{1}, .base = Gfn(4096), .pages = 16});
  AddProcess();
  AddProcess();
  GuestTableBuilder other(&vm_.memory(), &vm_.untracked(),
                          GfnRange{Gfn(4096), 16});
  ASSERT_TRUE(other.Map(kGva, ToGpa(kData), Level::k4K, kAll).ok());
  ASSERT_TRUE(cpu_->mmu().SetRegisters(LongMode(other.root())).ok());
  ASSERT_TRUE(cpu_->Touch(kGva, Write()).hit());
  Run(0, 1);
  vm_.DeleteSlot(AddressSpace::kNormal, SlotId{1});
  EXPECT_EQ(vm_.Violations(), "");
  ASSERT_TRUE(cpu_->mmu().SetRegisters(LongMode(other.root())).ok());
  EXPECT_TRUE(cpu_->Touch(kGva, Write()).EndedAs(Kind::kMemoryFault));
  Run(0, 1);
}

// Not entering in between: the request is still there when the root is used.
TEST_F(PreviousRoots, OneThatWentWhileAnotherRanIsNotUsedByAFault) {
  AddProcess();
  AddProcess();
  Run(0, 1);
  Run(1, 1);
  vm_.mmu().InvalidateAll(Strategy::kZapAll);
  ASSERT_TRUE(cpu_->mmu().SetRegisters(registers_[0]).ok());
  EXPECT_TRUE(cpu_->mmu().HandleFault(kGva, Write()).resume());
  EXPECT_EQ(vm_.RmapLength(kData), 1u);
  cpu_->mmu().Invlpg(kGva);
  EXPECT_EQ(vm_.RmapLength(kData), 0u);
  Run(0, 1);
}

class NoPreviousRoots : public PreviousRoots {
 protected:
  NoPreviousRoots() : PreviousRoots({.previous_roots = 0}) {}
};

TEST_F(NoPreviousRoots, NothingIsKept) {
  AddProcess();
  AddProcess();
  Run(0, 1);
  Run(1, 1);
  Run(0, 0);
  EXPECT_EQ(Hits(), 0u);
  EXPECT_GE(vm_.mmu().GetStats().root_switches, 3u);
}

// The fewest tables that are accepted: four vCPUs of PAE guests hold 16 as
// their roots, and would hold 48 more.
class FewTables : public PreviousRoots {
 protected:
  FewTables() : PreviousRoots({.table_capacity = 28, .max_vcpus = 4}) {}
};

TEST_F(FewTables, PreviousRootsGoWhenThereIsNoRoom) {
  std::vector<GuestVcpu*> vcpus = {cpu_};
  for (int v = 1; v < 4; ++v) vcpus.push_back(&vm_.AddVcpu());
  // Their roots alone are 32 tables, and among them the vCPUs have used all.
  for (int i = 0; i < 8; ++i) AddProcess(GuestMode::kPae);
  for (uint64_t round = 0; round < 24; ++round) {
    for (uint64_t v = 0; v < vcpus.size(); ++v) {
      const uint64_t process = (round + 2 * v) % 8;
      ASSERT_TRUE(vcpus[v]->mmu().SetRegisters(registers_[process]).ok());
      const TouchResult touched = vcpus[v]->Touch(kGva, Write());
      ASSERT_TRUE(touched.hit()) << touched;
      EXPECT_EQ(touched.hpa, ToHpa(vm_.PfnOf(kData + process)));
      EXPECT_EQ(vm_.Violations(), "");
    }
  }
  EXPECT_GT(vm_.mmu().GetStats().pages_evicted, 0u);
}

TEST(PreviousRootsConfig, MoreThanThereCanBeAreRefused) {
  TestHost host(TestHost::Options{.frames = 1});
  const auto mmu =
      Mmu::Create({.host = &host, .previous_roots = kMaxPreviousRoots + 1});
  EXPECT_EQ(mmu.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(mmu.status().message(), "previous_roots: 4 is not within 0 to 3");
}

}  // namespace
}  // namespace shadowmmu::testing
