// CpuModel: what it keeps, until when, and what other threads may do to it.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "tests/harness/cpu_model.h"
#include "tests/harness/test_host.h"
#include "tests/harness_test/hand_tables.h"

namespace shadowmmu::testing {
namespace {

constexpr Gva kGva{0x7f12'3456'7000};
constexpr Gva kNeighbour = kGva + kPageSize;  // of the same page table
constexpr uint64_t kUserWritable = hw_entry::kUser | hw_entry::kWritable;

class CpuModelTlbTest : public ::testing::Test {
 protected:
  void SetUp() override {
    host_.Attach(VcpuId{0}, &cpu_);
    tables_.Map(kGva, Pfn(1), Level::k4K, kUserWritable);
    tables_.Map(kNeighbour, Pfn(2), Level::k4K, kUserWritable);
    ASSERT_EQ(cpu_.Load(tables_.State()), "");
  }
  void TearDown() override { host_.Detach(VcpuId{0}); }

  TestHost host_{TestHost::Options{.frames = 8}};
  HandTables tables_{&host_, Level::k512G};
  CpuModel cpu_{&host_, EntryFormat{}};
};

TEST_F(CpuModelTlbTest, ATranslationIsUsedUntilItIsFlushedHoweverTablesChange) {
  ASSERT_TRUE(cpu_.Access(kGva, Write()).hit());
  tables_.Slot(kGva, Level::k4K) = 0;
  const CpuResult stale = cpu_.Access(kGva, Write());
  EXPECT_EQ(stale.hpa, ToHpa(Pfn(1)));
  EXPECT_TRUE(stale.from_tlb);
  cpu_.FlushPage(kGva);
  EXPECT_EQ(cpu_.Access(kGva, Write()).kind, CpuResult::Kind::kPageFault);
}

TEST_F(CpuModelTlbTest, AFlushThatTheHostLosesLeavesTheStaleTranslation) {
  ASSERT_TRUE(cpu_.Access(kGva, Read()).hit());
  tables_.Slot(kGva, Level::k4K) = 0;
  host_.SetFlushDelivery(Delivery::kLose);
  host_.FlushTlb(VcpuSet::Of(VcpuId{0}), FlushRange::All());
  EXPECT_TRUE(cpu_.Access(kGva, Read()).hit());
  host_.SetFlushDelivery(Delivery::kDeliver);
  host_.FlushTlb(VcpuSet::Of(VcpuId{1}), FlushRange::All());
  EXPECT_TRUE(cpu_.Access(kGva, Read()).hit()) << "it was for another vCPU";
  host_.FlushTlb(VcpuSet::Of(VcpuId{0}), FlushRange::All());
  EXPECT_FALSE(cpu_.Access(kGva, Read()).hit());
  EXPECT_EQ(host_.flushes(), 3u);
}

TEST_F(CpuModelTlbTest, ARangedFlushDropsItsPagesAndNoOthers) {
  ASSERT_TRUE(cpu_.Access(kGva, Read()).hit());
  ASSERT_TRUE(cpu_.Access(kNeighbour, Read()).hit());
  tables_.Map(Gva(0x4000'0000), Pfn(0x200), Level::k2M, kUserWritable);
  ASSERT_TRUE(cpu_.Access(Gva(0x4000'0000), Read()).hit());

  cpu_.Flush(FlushRange{.begin = kNeighbour, .pages = 3});
  EXPECT_TRUE(cpu_.Access(kGva, Read()).from_tlb);
  EXPECT_FALSE(cpu_.Access(kNeighbour, Read()).from_tlb);
  EXPECT_TRUE(cpu_.Access(Gva(0x4000'0000), Read()).from_tlb);
  // Any page of a large one drops it whole.
  cpu_.Flush(FlushRange{.begin = Gva(0x401f'f000), .pages = 1});
  EXPECT_FALSE(cpu_.Access(Gva(0x4000'0000), Read()).from_tlb);
  // A range that begins below it and ends in it, too.
  cpu_.Flush(FlushRange{.begin = Gva(0x3fff'f000), .pages = 2});
  EXPECT_FALSE(cpu_.Access(Gva(0x4000'0000), Read()).from_tlb);
}

TEST_F(CpuModelTlbTest, UpperEntriesAreUsedUntilTheyAreFlushed) {
  ASSERT_TRUE(cpu_.Access(kGva, Read()).hit());
  ASSERT_EQ(cpu_.StructureEntries().size(), 3u);
  // The page directory entry goes; the walk of a neighbour does not see it.
  tables_.Slot(kGva, Level::k2M) = 0;
  EXPECT_EQ(cpu_.Access(kNeighbour, Read()).hpa, ToHpa(Pfn(2)));
  // Flushing what the entry does not cover does not help.
  cpu_.FlushPage(kGva + BytesPerEntry(Level::k2M));
  cpu_.FlushPage(kNeighbour - 0x1000'0000);
  EXPECT_TRUE(cpu_.Access(kNeighbour, Read()).hit());
  cpu_.Flush(FlushRange::All());
  EXPECT_EQ(cpu_.Access(kNeighbour, Read()).kind, CpuResult::Kind::kPageFault);
  EXPECT_TRUE(cpu_.StructureEntries().empty());
}

TEST_F(CpuModelTlbTest, UpperEntriesKeepTheRightsThatTheWalkSaw) {
  tables_.Slot(kGva, Level::k1G) &= ~hw_entry::kWritable;
  ASSERT_TRUE(cpu_.Access(kGva, Read()).hit());
  tables_.Slot(kGva, Level::k1G) |= hw_entry::kWritable;
  const CpuResult first = cpu_.Access(kNeighbour, Write());
  EXPECT_EQ(first.error_code, pf_error::kPresent | pf_error::kWrite);
  // The fault dropped all that stands for that address.
  EXPECT_TRUE(cpu_.Access(kNeighbour, Write()).hit());
}

TEST_F(CpuModelTlbTest, AWriteAfterAReadWalksAgainToSetDirty) {
  ASSERT_TRUE(cpu_.Access(kGva, Read()).hit());
  ASSERT_FALSE(cpu_.TlbEntries().at(0).dirty);
  const CpuResult first = cpu_.Access(kGva, Write());
  EXPECT_FALSE(first.from_tlb);
  EXPECT_TRUE(tables_.Slot(kGva, Level::k4K) & hw_entry::kDirty);
  EXPECT_TRUE(cpu_.Access(kGva, Write()).from_tlb);
  EXPECT_EQ(cpu_.walks(), 2u);
}

TEST_F(CpuModelTlbTest, AWriteAfterAReadFaultsWhereTheLeafIsGone) {
  ASSERT_TRUE(cpu_.Access(kGva, Read()).hit());
  tables_.Slot(kGva, Level::k4K) = 0;
  EXPECT_TRUE(cpu_.Access(kGva, Read()).hit());
  EXPECT_EQ(cpu_.Access(kGva, Write()).error_code, pf_error::kWrite);
  EXPECT_EQ(tables_.Slot(kGva, Level::k4K), 0u);
}

TEST_F(CpuModelTlbTest, AStaleTranslationWithTooFewRightsFaultsOnce) {
  tables_.Slot(kGva, Level::k4K) &= ~hw_entry::kWritable;
  ASSERT_TRUE(cpu_.Access(kGva, Read()).hit());
  tables_.Slot(kGva, Level::k4K) |= hw_entry::kWritable;
  const CpuResult spurious = cpu_.Access(kGva, Write(Privilege::kUser));
  EXPECT_EQ(spurious.error_code,
            pf_error::kPresent | pf_error::kWrite | pf_error::kUser);
  EXPECT_TRUE(cpu_.Access(kGva, Write(Privilege::kUser)).hit());
}

TEST_F(CpuModelTlbTest, EnteringWithTheSameStateKeepsAllAndANewRootDropsAll) {
  ASSERT_TRUE(cpu_.Access(kGva, Read()).hit());
  ASSERT_EQ(cpu_.Enter(tables_.State()), "");
  EXPECT_TRUE(cpu_.Access(kGva, Read()).from_tlb);
  HandTables other(&host_, Level::k512G);
  ASSERT_EQ(cpu_.Enter(other.State()), "");
  EXPECT_TRUE(cpu_.TlbEntries().empty());
  EXPECT_FALSE(cpu_.Access(kGva, Read()).hit());
}

TEST_F(CpuModelTlbTest, InspectionTellsWhatIsCached) {
  tables_.Slot(kGva, Level::k4K) |= hw_entry::kNoExecute;
  tables_.Slot(kNeighbour, Level::k4K) &= ~kUserWritable;
  ASSERT_TRUE(cpu_.Access(kNeighbour, Read()).hit());
  ASSERT_TRUE(cpu_.Access(kGva, Write()).hit());
  const std::vector<TlbEntry> entries = cpu_.TlbEntries();
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0], (TlbEntry{kGva, Level::k4K, Pfn(1),
                                  Rights{true, true, false}, true}));
  EXPECT_EQ(entries[1], (TlbEntry{kNeighbour, Level::k4K, Pfn(2),
                                  Rights{false, false, true}, false}));
}

TEST_F(CpuModelTlbTest, AKickIsSeenUnlessItIsLost) {
  host_.SetKickDelivery(Delivery::kLose);
  host_.Kick(VcpuSet::Of(VcpuId{0}));
  EXPECT_FALSE(cpu_.exit_requested());
  host_.SetKickDelivery(Delivery::kDeliver);
  host_.Kick(VcpuSet::Of(VcpuId{0}));
  EXPECT_TRUE(cpu_.exit_requested());
  EXPECT_EQ(host_.kicks(), 2u);
}

TEST_F(CpuModelTlbTest, AFlushReturnsOnlyWhenTheAccessUnderWayIsOver) {
  std::atomic<bool> flushing{false};
  std::atomic<bool> flushed{false};
  std::thread flusher;
  const CpuResult result = cpu_.Access(kGva, Write(), [&](Hpa) {
    flusher = std::thread([&] {
      flushing.store(true);
      host_.FlushTlb(VcpuSet::Of(VcpuId{0}), FlushRange::All());
      flushed.store(true);
    });
    while (!flushing.load()) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    EXPECT_FALSE(flushed.load());
  });
  flusher.join();
  EXPECT_TRUE(result.hit());
  EXPECT_TRUE(flushed.load());
  EXPECT_TRUE(cpu_.TlbEntries().empty());
}

// Given a CPU that keeps walking, when another thread zaps an entry of any
// level, then no accessed or dirty bit appears in it afterwards, and after the
// flush no access goes through.
class ZapUnderWalkTest : public CpuModelTlbTest,
                         public ::testing::WithParamInterface<Level> {};

TEST_P(ZapUnderWalkTest, AZappedEntryStaysZapped) {
  constexpr int kRounds = 300;
  const std::atomic_ref<uint64_t> slot(tables_.Slot(kGva, GetParam()));
  const uint64_t mapped = slot.load();
  std::atomic<bool> stop{false};
  std::atomic<bool> is_mapped{true};
  std::atomic<int> late_hits{0};
  std::thread guest([&] {
    const auto check = [&](Hpa) {
      if (!is_mapped.load()) late_hits.fetch_add(1);
    };
    while (!stop.load()) {
      cpu_.EvictAll();
      cpu_.Access(kGva, Read(), check);
      cpu_.Access(kGva, Write(), check);
    }
  });
  for (int i = 0; i < kRounds; ++i) {
    slot.store(0);
    host_.FlushTlb(VcpuSet::Of(VcpuId{0}), FlushRange::All());
    is_mapped.store(false);
    std::this_thread::yield();
    EXPECT_EQ(slot.load(), 0u);
    is_mapped.store(true);
    slot.store(mapped);
    std::this_thread::yield();
  }
  stop.store(true);
  guest.join();
  EXPECT_EQ(late_hits.load(), 0);
}

INSTANTIATE_TEST_SUITE_P(AtEachLevel, ZapUnderWalkTest,
                         ::testing::Values(Level::k4K, Level::k2M,
                                           Level::k512G));

}  // namespace
}  // namespace shadowmmu::testing
