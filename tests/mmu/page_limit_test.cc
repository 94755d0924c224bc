// The page limit: how many shadow pages a VM may have, and which go when there
// are more.

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "shadowmmu/default_host.h"
#include "src/mmu/vm.h"
#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {
namespace {

constexpr uint64_t kAll = gpte::kWritable | gpte::kUser;
constexpr uint32_t kVcpus = 4;
constexpr uint32_t kLeast = 12 + 4 * kVcpus;
constexpr uint32_t kCapacity = 256;
// Page i of a guest lies in a page table of its own.
constexpr Gva At(uint64_t i) { return Gva(i << 21 | 0x5000); }
constexpr Gfn DataOf(uint64_t i) { return Gfn(2048 + i); }

class PageLimit : public ::testing::Test {
 protected:
  explicit PageLimit(uint32_t limit = 0)
      : vm_({.table_capacity = kCapacity,
             .max_vcpus = kVcpus,
             .page_limit = limit}) {
    vm_.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = 4096});
    cpu_ = &vm_.AddVcpu();
    GuestTableBuilder& tables = vm_.UseTables(*cpu_, {Gfn(16), 512});
    for (uint64_t i = 0; i < 200; ++i) {
      EXPECT_TRUE(tables.Map(At(i), ToGpa(DataOf(i)), Level::k4K, kAll).ok());
    }
  }
  ~PageLimit() override { EXPECT_EQ(vm_.Violations(), ""); }

  // Touches pages [begin, end).
  void Run(uint64_t begin, uint64_t end) {
    for (uint64_t i = begin; i < end; ++i) {
      const TouchResult touched = cpu_->Touch(At(i), Write());
      ASSERT_TRUE(touched.hit()) << touched;
      EXPECT_EQ(touched.hpa, ToHpa(vm_.PfnOf(DataOf(i))));
      EXPECT_LE(InUse(), Stat().page_limit);
    }
  }
  bool Mapped(uint64_t i) { return vm_.RmapLength(DataOf(i)) != 0; }
  Stats Stat() { return vm_.mmu().GetStats(); }
  uint64_t InUse() { return Stat().shadow_pages; }
  void SetLimit(uint32_t limit) {
    const absl::Status set = vm_.mmu().SetPageLimit(limit);
    ASSERT_TRUE(set.ok()) << set;
    EXPECT_EQ(Stat().page_limit, limit);
    EXPECT_LE(InUse(), limit);
    EXPECT_EQ(vm_.Violations(), "");
  }

  SmallVm vm_;
  GuestVcpu* cpu_ = nullptr;
};

TEST_F(PageLimit, IsTheCapacityUnlessItIsSet) {
  EXPECT_EQ(Stat().page_limit, kCapacity);
}

TEST_F(PageLimit, OneWithWhichAFaultMightNotGetOnIsRefused) {
  Run(0, 50);
  const Stats before = Stat();
  for (const uint32_t limit : {0u, 1u, kLeast - 1, kCapacity + 1, ~0u}) {
    const absl::Status refused = vm_.mmu().SetPageLimit(limit);
    EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument) << limit;
    EXPECT_EQ(refused.message(),
              absl::StrCat("page_limit: ", limit, " is not within 28 to 256"));
  }
  EXPECT_EQ(Stat().page_limit, kCapacity);
  EXPECT_EQ(Stat().pages_zapped, before.pages_zapped);
  SetLimit(kLeast);
  SetLimit(kCapacity);
}

TEST_F(PageLimit, WhenItIsReachedTheOldestGo) {
  SetLimit(64);
  Run(0, 200);
  EXPECT_GT(Stat().pages_evicted, 100u);
  EXPECT_FALSE(Mapped(0));
  EXPECT_TRUE(Mapped(199));
}

TEST_F(PageLimit, LoweringItZapsAsManyOfTheOldestAsAreTooMany) {
  Run(0, 200);
  const uint64_t before = InUse();
  // The root is the very oldest, and stays; the two below it go.
  SetLimit(static_cast<uint32_t>(before) - 50);
  EXPECT_EQ(InUse(), before - 50);
  EXPECT_EQ(Stat().pages_evicted, 50u);
  EXPECT_FALSE(Mapped(0));
  EXPECT_FALSE(Mapped(47));
  EXPECT_TRUE(Mapped(48));
  EXPECT_TRUE(Mapped(199));
  SetLimit(static_cast<uint32_t>(before) - 51);
  EXPECT_EQ(Stat().pages_evicted, 51u) << "no more than are too many";
  EXPECT_FALSE(Mapped(48));
  EXPECT_TRUE(Mapped(49));
}

TEST_F(PageLimit, ObsoletePagesGoBeforeAnyOther) {
  Run(0, 60);
  vm_.mmu().BumpGeneration();
  Run(100, 160);
  const Stats before = Stat();
  EXPECT_GE(before.obsolete_pages, 60u);
  SetLimit(static_cast<uint32_t>(before.shadow_pages - before.obsolete_pages));
  EXPECT_EQ(Stat().obsolete_pages, 0u);
  EXPECT_EQ(Stat().pages_evicted, before.obsolete_pages);
  EXPECT_FALSE(Mapped(0));
  for (uint64_t i = 100; i < 160; ++i) EXPECT_TRUE(Mapped(i)) << i;
}

TEST_F(PageLimit, RaisedAgainItLetsTheVmGrow) {
  SetLimit(kLeast);
  Run(0, 100);
  EXPECT_LE(InUse(), kLeast);
  SetLimit(kCapacity);
  Run(0, 200);
  EXPECT_GT(InUse(), 200u);
}

TEST_F(PageLimit, TheLeastIsEnoughForEveryVcpuHoweverManyRootsItHadBefore) {
  std::vector<PagingRegisters> processes;
  for (uint64_t i = 0; i < 8; ++i) {
    GuestTableBuilder& tables =
        vm_.UseTables(*cpu_, {Gfn(600 + 16 * i), 16}, GuestMode::kPae);
    ASSERT_TRUE(tables.Map(At(0), ToGpa(DataOf(0)), Level::k4K, kAll).ok());
    processes.push_back(cpu_->mmu().registers());
  }
  while (vm_.mmu().GetStats().vcpus < kVcpus) vm_.AddVcpu();
  const auto run_all = [&] {
    for (unsigned v = 0; v < kVcpus; ++v) {
      for (unsigned i = 0; i < 4; ++i) {
        GuestVcpu& cpu = vm_.vcpu(v);
        ASSERT_TRUE(cpu.mmu().SetRegisters(processes[(2 * v + i) % 8]).ok());
        const TouchResult touched = cpu.Touch(At(0), Write());
        ASSERT_TRUE(touched.hit()) << touched;
      }
    }
  };
  run_all();
  // Each of the 32 page directories is of somebody's root, current or previous.
  const uint64_t hits = Stat().root_cache_hits;
  SetLimit(kLeast);
  ASSERT_TRUE(cpu_->mmu().SetRegisters(processes[0]).ok());
  EXPECT_EQ(Stat().root_cache_hits, hits)
      << "their previous roots were in the way";
  run_all();
  EXPECT_LE(InUse(), kLeast);
}

class PageLimitFromTheStart : public PageLimit {
 protected:
  PageLimitFromTheStart() : PageLimit(kLeast) {}
};

TEST_F(PageLimitFromTheStart, HoldsFromTheFirstFaultOn) {
  EXPECT_EQ(Stat().page_limit, kLeast);
  Run(0, 100);
  EXPECT_GT(Stat().pages_evicted, 0u);
}

TEST(PageLimitConfig, OneThatIsTooSmallIsRefused) {
  TestHost host(TestHost::Options{.frames = 1});
  const auto mmu = Mmu::Create(
      {.host = &host, .table_capacity = 100, .page_limit = 27, .max_vcpus = 4});
  EXPECT_EQ(mmu.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(mmu.status().message(), "page_limit: 27 is not within 28 to 100");
}

// A host in whose first flush somebody begins to wait for the MMU lock.
class SlowHost : public DefaultHost {
 public:
  void FlushTlb(const VcpuSet& set, FlushRange range) override {
    if (on_flush) std::exchange(on_flush, nullptr)();
    DefaultHost::FlushTlb(set, range);
  }
  std::function<void()> on_flush;
};

TEST(PageLimitThreads, WhoeverWaitsIsLetInBetweenTwoSteps) {
  SlowHost host;
  auto mmu = Mmu::Create({.host = &host,
                          .table_capacity = 1024,
                          .max_vcpus = 1,
                          .largest_page = Level::k4K});
  ASSERT_TRUE(mmu.ok()) << mmu.status();
  ASSERT_TRUE((*mmu)
                  ->CreateSlot({.id = SlotId{0},
                                .base = Gfn(0),
                                .pages = uint64_t{1} << 18,
                                .hva = Hva(uint64_t{1} << 32)})
                  .ok());
  auto vcpu = (*mmu)->CreateVcpu(VcpuId{0});
  ASSERT_TRUE(vcpu.ok()) << vcpu.status();
  for (uint64_t i = 0; i < 500; ++i) {
    ASSERT_TRUE((*vcpu)->HandleFault(Gva(i << 21), Read()).resume());
  }
  ASSERT_TRUE((*vcpu)->EnterGuest().resume());

  std::thread waiting;
  uint64_t in_use = 0;
  uint64_t limit = 0;
  host.on_flush = [&] {
    waiting = std::thread([&] {
      const Stats stats = (*mmu)->GetStats();
      in_use = stats.shadow_pages;
      limit = stats.page_limit;
    });
    const SharedMutex& lock = (*mmu)->internals().lock;
    while (!lock.Contended()) std::this_thread::yield();
  };
  ASSERT_TRUE((*mmu)->SetPageLimit(100).ok());
  waiting.join();
  (*vcpu)->ExitGuest();
  const Stats stats = (*mmu)->GetStats();
  EXPECT_GE(stats.lock_breaks, 1u);
  EXPECT_LE(in_use, limit) << "the limit comes down with the pages";
  EXPECT_EQ(stats.shadow_pages, 100u);
  EXPECT_EQ(stats.page_limit, 100u);
}

}  // namespace
}  // namespace shadowmmu::testing
