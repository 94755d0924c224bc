// The ways to invalidate, the bound on tables, and memory that runs out.

#include <gtest/gtest.h>

#include "src/mmu/vm.h"
#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {
namespace {

constexpr AddressSpace kNormal = AddressSpace::kNormal;
constexpr uint64_t kAll = gpte::kWritable | gpte::kUser;

class Invalidation : public ::testing::TestWithParam<Strategy> {
 protected:
  Invalidation() {
    vm_.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = 4096});
    for (int i = 0; i < 2; ++i) {
      vm_.UseTables(vm_.AddVcpu(), {Gfn(16 + i * 64), 64});
    }
  }
  ~Invalidation() override { EXPECT_EQ(vm_.Violations(), ""); }

  static Gva At(uint64_t page) { return Gva(0x7f00'0000'0000 + page * 0x7000); }

  // Both vCPUs map gfns 1024 and up, so that chains of two come about.
  void MapPages(uint64_t pages) {
    for (unsigned v = 0; v < 2; ++v) {
      GuestTableBuilder& tables =
          vm_.UseTables(vm_.vcpu(v), {Gfn(16 + v * 64), 64});
      for (uint64_t i = 0; i < pages; ++i) {
        ASSERT_TRUE(
            tables.Map(At(i), ToGpa(Gfn(1024 + i)), Level::k4K, kAll).ok());
      }
    }
    vm_.mmu().InvalidateAll();
  }
  void TouchPages(uint64_t pages) {
    for (unsigned v = 0; v < 2; ++v) {
      for (uint64_t i = 0; i < pages; ++i) {
        ASSERT_TRUE(vm_.vcpu(v).Touch(At(i), Write()).hit());
      }
    }
  }

  SmallVm vm_;
};

TEST_P(Invalidation, LeavesNothingMappedAndEverythingWorksAfter) {
  MapPages(100);
  TouchPages(100);
  EXPECT_EQ(vm_.RmapLength(Gfn(1030)), 2u);
  vm_.mmu().InvalidateAll(GetParam());
  const Stats stats = vm_.mmu().GetStats();
  EXPECT_EQ(stats.leaf_sptes, 0u);
  EXPECT_EQ(stats.pte_list_descs, 0u);
  // Roots that vCPUs hold stay, empty, until they let go.
  EXPECT_EQ(stats.shadow_pages, 2u);
  EXPECT_EQ(stats.obsolete_pages, 2u);
  EXPECT_EQ(vm_.Violations(), "");
  TouchPages(100);
  EXPECT_EQ(vm_.mmu().GetStats().leaf_sptes, 200u);
  EXPECT_EQ(vm_.mmu().GetStats().obsolete_pages, 0u);
}

TEST_P(Invalidation, AVcpuInTheGuestIsKickedAndLoadsANewRoot) {
  MapPages(4);
  TouchPages(4);
  VcpuMmu& mmu = vm_.vcpu(0).mmu();
  ASSERT_TRUE(mmu.EnterGuest().resume());
  const uint64_t kicks = vm_.host().kicks();
  vm_.mmu().InvalidateAll(GetParam());
  EXPECT_GT(vm_.host().kicks(), kicks);
  EXPECT_TRUE(vm_.vcpu(0).cpu().TlbEntries().empty());
  // Its old root is empty, but still a table: no access goes through it.
  EXPECT_FALSE(vm_.vcpu(0).cpu().Access(At(0), Read()).hit());
  mmu.ExitGuest();
  const uint64_t obsolete = vm_.mmu().GetStats().obsolete_pages;
  ASSERT_TRUE(mmu.EnterGuest().resume());
  EXPECT_EQ(vm_.mmu().GetStats().obsolete_pages, obsolete - 1);
  mmu.ExitGuest();
}

INSTANTIATE_TEST_SUITE_P(Strategies, Invalidation,
                         ::testing::Values(Strategy::kZapAll,
                                           Strategy::kObsoleteWalk));

class Reclaim : public Invalidation {};

TEST_P(Reclaim, GoesOldestFirstWithinItsBudgetAndStopsAtTheFirstCurrentPage) {
  MapPages(50);
  TouchPages(50);
  vm_.mmu().BumpGeneration();
  TouchPages(10);
  const Stats before = vm_.mmu().GetStats();
  ASSERT_GT(before.obsolete_pages, 4u);

  const ReclaimResult some = vm_.mmu().ReclaimObsolete(3);
  EXPECT_EQ(some.pages, 3u);
  EXPECT_TRUE(some.more);
  EXPECT_EQ(vm_.mmu().GetStats().obsolete_pages, before.obsolete_pages - 3);
  EXPECT_EQ(vm_.Violations(), "");

  const ReclaimResult rest = vm_.mmu().ReclaimObsolete(1'000'000);
  EXPECT_EQ(rest.pages, before.obsolete_pages - 3);
  EXPECT_FALSE(rest.more);
  EXPECT_EQ(vm_.mmu().GetStats().leaf_sptes, 20u) << "the current ones stay";
  EXPECT_EQ(vm_.mmu().ReclaimObsolete(5).pages, 0u);
}

TEST_P(Reclaim, OfPagesOfManyGenerationsTakesThemAll) {
  MapPages(20);
  for (int i = 0; i < 5; ++i) {
    TouchPages(20);
    vm_.mmu().BumpGeneration();
  }
  EXPECT_EQ(vm_.Violations(), "");
  vm_.mmu().ReclaimObsolete(1'000'000);
  EXPECT_EQ(vm_.mmu().GetStats().leaf_sptes, 0u);
}

// Bug 8 of KVM's: a narrow generation came round while a root was pinned.
TEST_P(Reclaim, APinnedObsoleteRootIsNeverRevivedHoweverOftenTheBump) {
  MapPages(4);
  TouchPages(4);
  VcpuMmu& mmu = vm_.vcpu(0).mmu();
  ASSERT_TRUE(mmu.EnterGuest().resume());
  const Hpa old_root = mmu.HardwareState().root;
  mmu.ExitGuest();
  for (int i = 0; i < 300; ++i) vm_.mmu().BumpGeneration();
  ASSERT_TRUE(mmu.EnterGuest().resume());
  EXPECT_NE(mmu.HardwareState().root, old_root);
  mmu.ExitGuest();
}

// Bug 11 of KVM's: pinned roots were listed, and visited, again and again.
TEST_P(Reclaim, APinnedRootIsVisitedOnce) {
  MapPages(4);
  TouchPages(4);
  vm_.mmu().InvalidateAll(GetParam());
  const uint64_t zapped = vm_.mmu().GetStats().pages_zapped;
  vm_.mmu().InvalidateAll(GetParam());
  vm_.mmu().InvalidateAll(GetParam());
  EXPECT_EQ(vm_.mmu().GetStats().pages_zapped, zapped);
}

INSTANTIATE_TEST_SUITE_P(Strategies, Reclaim,
                         ::testing::Values(Strategy::kZapAll,
                                           Strategy::kObsoleteWalk));

// A VM whose tables do not suffice for what its guest touches.
TEST(Capacity, OldPagesMakeRoomAndEveryAccessStillGoesThrough) {
  SmallVm vm(SmallVm::Options{.table_capacity = 16, .max_vcpus = 1});
  vm.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = 4096});
  GuestVcpu& cpu = vm.AddVcpu();
  GuestTableBuilder& tables = vm.UseTables(cpu, {Gfn(16), 200});
  constexpr uint64_t kPages = 40;
  const auto at = [](uint64_t i) { return Gva(i << 30); };
  for (uint64_t i = 0; i < kPages; ++i) {
    ASSERT_TRUE(tables.Map(at(i), ToGpa(Gfn(1024 + i)), Level::k4K, kAll).ok());
  }
  for (int round = 0; round < 3; ++round) {
    for (uint64_t i = 0; i < kPages; ++i) {
      const TouchResult touched = cpu.Touch(at(i), Write());
      ASSERT_TRUE(touched.hit()) << touched;
      ASSERT_EQ(vm.Violations(1), "");
    }
  }
  EXPECT_GT(vm.mmu().GetStats().pages_evicted, 0u);
  EXPECT_LE(vm.mmu().GetStats().shadow_pages, 16u);
}

TEST(Capacity, TheRootOfASleepingVcpuStays) {
  SmallVm vm(SmallVm::Options{.table_capacity = 20, .max_vcpus = 2});
  vm.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = 4096});
  GuestVcpu& cpu = vm.AddVcpu();
  GuestVcpu& sleeper = vm.AddVcpu();
  GuestTableBuilder& tables = vm.UseTables(sleeper, {Gfn(300), 16});
  ASSERT_TRUE(tables.Map(Gva(0), Gpa(0x5000), Level::k4K, kAll).ok());
  ASSERT_TRUE(sleeper.Touch(Gva(0), Write()).hit());
  const Hpa root = sleeper.mmu().HardwareState().root;
  const auto root_is_active = [&] {
    Vm& inside = vm.mmu().internals();
    const VmLock held(inside);
    const ShadowPage& page = inside.arena.Page(inside.arena.TableAt(root));
    return page.state == PageState::kActive && page.root_count == 1;
  };
  ASSERT_TRUE(root_is_active());

  GuestTableBuilder& others = vm.UseTables(cpu, {Gfn(16), 200});
  for (uint64_t i = 0; i < 40; ++i) {
    const Gva gva(i << 30);
    ASSERT_TRUE(others.Map(gva, ToGpa(Gfn(1024 + i)), Level::k4K, kAll).ok());
    ASSERT_TRUE(cpu.Touch(gva, Write()).hit());
  }
  EXPECT_GT(vm.mmu().GetStats().pages_evicted, 0u);
  EXPECT_TRUE(root_is_active()) << "it was evicted";
  EXPECT_EQ(vm.Violations(1), "");
}

// Roots cannot be evicted, so the least capacity leaves room beside them.
TEST(Capacity, TheLeastThatIsAcceptedLetsEveryVcpuGetOn) {
  constexpr uint32_t kVcpus = 3;
  TestHost host(TestHost::Options{.frames = 1});
  EXPECT_EQ(Mmu::Create({.host = &host,
                         .table_capacity = 4 * kVcpus + 11,
                         .max_vcpus = kVcpus})
                .status()
                .code(),
            absl::StatusCode::kInvalidArgument);

  SmallVm vm(
      SmallVm::Options{.table_capacity = 4 * kVcpus + 12, .max_vcpus = kVcpus});
  vm.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = 4096});
  for (unsigned i = 0; i < kVcpus; ++i) {
    // Old PAE roots, four tables each, obsolete and held by a vCPU that sleeps.
    GuestVcpu& cpu = vm.AddVcpu();
    EXPECT_TRUE(cpu.Touch(Gva(0x1000), Write()).hit());
    vm.mmu().BumpGeneration();
  }
  GuestTableBuilder& tables = vm.UseTables(vm.vcpu(0), {Gfn(64), 16});
  ASSERT_TRUE(tables.Map(Gva(0), Gpa(0x5000), Level::k4K, kAll).ok());
  EXPECT_TRUE(vm.vcpu(0).Touch(Gva(0), Write()).hit());
  EXPECT_EQ(vm.Violations(1), "");
}

// One after another, every allocation fails: each call ends with a status or an
// outcome, nothing is half-linked, and the same call works afterwards.
TEST(AllocationFailure, OfAnyKindLeavesAHealthyVm) {
  for (uint64_t failing = 1;; ++failing) {
    TestHost host(TestHost::Options{.frames = 2048});
    host.MapRange(Hva(0x7000'0000), 2048, Frame{0});
    host.FailAllocation(failing);
    bool failed = false;
    auto mmu =
        Mmu::Create({.host = &host, .table_capacity = 64, .max_vcpus = 4});
    if (!mmu.ok()) {
      EXPECT_EQ(mmu.status().code(), absl::StatusCode::kResourceExhausted);
      continue;
    }
    const SlotSpec slot{.id = SlotId{0},
                        .base = Gfn(0),
                        .pages = 2048,
                        .hva = Hva(0x7000'0000)};
    absl::Status made = (*mmu)->CreateSlot(slot);
    if (!made.ok()) {
      failed = true;
      EXPECT_EQ(made.code(), absl::StatusCode::kResourceExhausted);
      EXPECT_TRUE(Audit(**mmu).ok());
      ASSERT_TRUE((*mmu)->CreateSlot(slot).ok());
    }
    auto vcpu = (*mmu)->CreateVcpu(VcpuId{0});
    ASSERT_TRUE(vcpu.ok());
    GuestMemory memory(&host);
    memory.AddSlot(slot);
    UntrackedStore store(&memory);
    GuestTableBuilder tables(&memory, &store, {Gfn(16), 64});
    ASSERT_TRUE((*vcpu)->SetRegisters(LongMode(tables.root())).ok());
    for (uint64_t i = 0; i < 24; ++i) {
      const Gva gva(i * 0x3000'0000);
      // Chains, too: eight frames, three aliases of each.
      ASSERT_TRUE(
          tables.Map(gva, ToGpa(Gfn(1000 + i % 8)), Level::k4K, kAll).ok());
      FaultOutcome outcome = (*vcpu)->HandleFault(gva, Write());
      if (outcome.kind == FaultOutcome::Kind::kNoMemory) {
        failed = true;
        EXPECT_TRUE(Audit(**mmu).ok()) << Audit(**mmu);
        outcome = (*vcpu)->HandleFault(gva, Write());
      }
      ASSERT_TRUE(outcome.resume()) << outcome;
    }
    EXPECT_TRUE(Audit(**mmu).ok()) << Audit(**mmu);
    EXPECT_TRUE((*mmu)->DeleteSlot(kNormal, SlotId{0}).ok());
    vcpu->reset();
    mmu->reset();
    EXPECT_EQ(host.bytes_outstanding(), 0u);
    if (!failed) {
      EXPECT_GT(failing, 10u) << "that was too few allocations to be true";
      break;
    }
  }
}

}  // namespace
}  // namespace shadowmmu::testing
