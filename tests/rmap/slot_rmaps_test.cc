// SlotRmaps: chunks cut at the slot's edges, memory, allocation that fails.

#include "src/rmap/slot_rmaps.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "tests/rmap/counting_host.h"

namespace shadowmmu::testing {
namespace {

constexpr uint64_t kEpoch = 1;
constexpr uint64_t k2M = 512;  // gfns
constexpr uint64_t k1G = 512 * 512;
constexpr SpteRef kRef{TableIndex{3}, 5};

std::shared_ptr<SlotRmaps> Make(CountingHost& host, GfnRange gfns,
                                uint64_t serial = 1) {
  auto made = SlotRmaps::Create(host, gfns, serial);
  EXPECT_TRUE(made.ok()) << made.status();
  return made.ok() ? *std::move(made) : nullptr;
}

// Slots that begin, and end, in the middle of 2 MiB and of 1 GiB.
class SlotEdges : public ::testing::TestWithParam<GfnRange> {
 protected:
  const GfnRange gfns_ = GetParam();
  CountingHost host_;
  std::shared_ptr<SlotRmaps> rmaps_ = Make(host_, gfns_);
};

// Bug 26.
TEST_P(SlotEdges, EveryHeadLiesWithinItsChunkAndEveryChunkWithinTheSlot) {
  std::set<const RmapHead*> heads;
  for (Gfn gfn = gfns_.begin; gfn < gfns_.end(); gfn += 1) {
    ASSERT_TRUE(rmaps_->EnsureChunk(gfn));
    RmapChunk* const chunk = rmaps_->Chunk(gfn, kEpoch);
    ASSERT_NE(chunk, nullptr);
    EXPECT_GE(chunk->first_gfn, gfns_.begin);
    EXPECT_LE(chunk->first_gfn + chunk->gfns, gfns_.end());
    EXPECT_EQ(AlignDown(chunk->first_gfn, Level::k2M),
              AlignDown(chunk->first_gfn + (chunk->gfns - 1), Level::k2M));
    RmapHead* const head = rmaps_->Head(gfn, Level::k4K, kEpoch);
    ASSERT_GE(head, chunk->heads());
    ASSERT_LT(head, chunk->heads() + chunk->gfns);
    EXPECT_TRUE(head->empty());
    *head = RmapHead::Single(kRef);
    EXPECT_TRUE(heads.insert(head).second) << gfn << " shares a head";
  }
  EXPECT_EQ(heads.size(), gfns_.pages);
  host_.CheckBounds();
}

TEST_P(SlotEdges, ChunksAreAsLargeAsWhatTheyCoverOfTheSlot) {
  const uint64_t directory = host_.bytes();
  uint64_t expected = 0;
  for (Gfn gfn = gfns_.begin; gfn < gfns_.end(); gfn += 1) {
    ASSERT_TRUE(rmaps_->EnsureChunk(gfn));
    expected += sizeof(RmapHead);
  }
  const uint64_t chunks = (gfns_.end() - 1).value() / kGfnsPerChunk -
                          gfns_.begin.value() / kGfnsPerChunk + 1;
  EXPECT_EQ(rmaps_->chunks_made(), chunks);
  EXPECT_EQ(host_.bytes() - directory, expected + chunks * sizeof(RmapChunk));
  EXPECT_EQ(rmaps_->bytes(), host_.bytes());
}

TEST_P(SlotEdges, ThereIsOneGigabyteRecordForEachGibThatItTouches) {
  std::set<const RmapHead*> records;
  for (Gfn gfn = gfns_.begin; gfn < gfns_.end(); gfn += 1) {
    records.insert(rmaps_->Head(gfn, Level::k1G, kEpoch));
  }
  const uint64_t gibs =
      (gfns_.end() - 1).value() / k1G - gfns_.begin.value() / k1G + 1;
  EXPECT_EQ(records.size(), gibs);
  std::vector<Gfn> visited;
  rmaps_->ForEachGigabyte(
      kEpoch, [&](Gfn gfn, GigabyteRecord&) { visited.push_back(gfn); });
  ASSERT_EQ(visited.size(), gibs);
  EXPECT_EQ(visited.front(), AlignDown(gfns_.begin, Level::k1G));
}

TEST_P(SlotEdges, WriteTrackCountsStayWithinTheirArray) {
  for (const Gfn gfn : {gfns_.begin, gfns_.end() - 1}) {
    ASSERT_TRUE(rmaps_->EnsureWriteTrack(gfn));
    rmaps_->Track(gfn, kEpoch);
  }
  host_.CheckBounds();
  EXPECT_EQ(rmaps_->Tracked(gfns_.end() - 1, kEpoch),
            gfns_.pages == 1 ? 2u : 1u);
  rmaps_->Untrack(gfns_.begin, kEpoch);
  rmaps_->Untrack(gfns_.end() - 1, kEpoch);
}

INSTANTIATE_TEST_SUITE_P(
    Slots, SlotEdges,
    ::testing::Values(GfnRange{Gfn(0), 1},                 // one page
                      GfnRange{Gfn(0), k2M},               // all of 2M
                      GfnRange{Gfn(511), 1},               // the last page
                      GfnRange{Gfn(511), 2},               // both sides
                      GfnRange{Gfn(100), 300},             // inside 2M
                      GfnRange{Gfn(100), 3 * k2M},         // ends inside 2M
                      GfnRange{Gfn(k1G - 1), 2},           // over 1G
                      GfnRange{Gfn(k1G - 513), k2M + 1},   // up to 1G
                      GfnRange{Gfn(k1G - 77), 2 * k2M},    // over 1G
                      GfnRange{Gfn((1ull << 40) - 7), 7},  // the very top
                      GfnRange{Gfn(5 * k1G + 3), k1G / 8}));

TEST(SlotRmapsTest, BeforeAChunkIsMadeNothingIsThere) {
  CountingHost host;
  const auto rmaps = Make(host, {Gfn(1000), 5000});
  EXPECT_EQ(rmaps->Head(Gfn(1000), Level::k4K, kEpoch), nullptr);
  EXPECT_EQ(rmaps->Head(Gfn(1024), Level::k2M, kEpoch), nullptr);
  EXPECT_NE(rmaps->Head(Gfn(1000), Level::k1G, kEpoch), nullptr);
  EXPECT_EQ(rmaps->PeekChunk(Gfn(1000), kEpoch), nullptr);
  EXPECT_EQ(rmaps->Tracked(Gfn(1000), kEpoch), 0u);
  EXPECT_EQ(rmaps->chunks_made(), 0u);
  rmaps->ForEachChunk(kEpoch, [](RmapChunk&) { FAIL() << "a chunk"; });
}

TEST(SlotRmapsTest, ASlotOf1TiBCostsAPointerPer2MiBUntilItIsUsed) {
  CountingHost host;
  const uint64_t pages = uint64_t{1} << 28;
  const auto rmaps = Make(host, {Gfn(k1G), pages});
  EXPECT_EQ(host.bytes(), pages / k2M * 8 + pages / k1G * 24);
  EXPECT_EQ(host.allocations(), 2u);
  const uint64_t before = host.bytes();
  ASSERT_TRUE(rmaps->EnsureChunk(Gfn(k1G + pages - 1)));
  EXPECT_EQ(host.bytes() - before, RmapChunk::Bytes(512));
  EXPECT_TRUE(rmaps->Head(Gfn(k1G + pages - 1), Level::k4K, kEpoch)->empty());
}

TEST(SlotRmapsTest, ASlotOfOnePageIsCheapEvenUsed) {
  CountingHost host;
  const auto rmaps = Make(host, {Gfn(12345), 1});
  EXPECT_EQ(host.bytes(), 32u);
  ASSERT_TRUE(rmaps->EnsureChunk(Gfn(12345)));
  EXPECT_EQ(host.bytes(), 32u + 68u);
}

TEST(SlotRmapsTest, EnsuringTwiceAllocatesOnce) {
  CountingHost host;
  const auto rmaps = Make(host, {Gfn(0), 1024});
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(rmaps->EnsureWriteTrack(Gfn(3)));
    ASSERT_TRUE(rmaps->EnsureChunk(Gfn(510)));
  }
  EXPECT_EQ(host.allocations(), 4u);
  EXPECT_EQ(rmaps->chunks_made(), 1u);
}

TEST(SlotRmapsTest, WithoutMemoryForTheDirectoryThereIsNoSlotAndNoLeak) {
  for (const uint64_t n : {1, 2}) {
    CountingHost host;
    host.FailAllocation(n);
    const auto made = SlotRmaps::Create(host, {Gfn(0), 1024}, 1);
    EXPECT_EQ(made.status().code(), absl::StatusCode::kResourceExhausted);
    EXPECT_EQ(host.bytes(), 0u);
  }
}

TEST(SlotRmapsTest, WithoutMemoryForAChunkTheSlotStaysAsItWas) {
  CountingHost host;
  const auto rmaps = Make(host, {Gfn(0), 1024});
  const uint64_t before = host.bytes();
  host.FailAllocation(1);
  EXPECT_FALSE(rmaps->EnsureChunk(Gfn(5)));
  EXPECT_EQ(rmaps->Chunk(Gfn(5), kEpoch), nullptr);
  EXPECT_EQ(host.bytes(), before);
  EXPECT_EQ(rmaps->bytes(), before);
  EXPECT_TRUE(rmaps->EnsureChunk(Gfn(5)));
}

TEST(SlotRmapsTest, WithoutMemoryForCountsTheChunkStaysUsable) {
  CountingHost host;
  const auto rmaps = Make(host, {Gfn(0), 1024});
  host.FailAllocation(1);
  EXPECT_FALSE(rmaps->EnsureWriteTrack(Gfn(5))) << "no chunk";
  EXPECT_EQ(rmaps->chunks_made(), 0u);
  host.FailAllocation(2);
  EXPECT_FALSE(rmaps->EnsureWriteTrack(Gfn(5))) << "no counts";
  EXPECT_EQ(rmaps->chunks_made(), 1u);
  EXPECT_EQ(rmaps->Tracked(Gfn(5), kEpoch), 0u);
  EXPECT_TRUE(rmaps->EnsureWriteTrack(Gfn(5)));
  EXPECT_EQ(rmaps->bytes(), host.bytes());
}

TEST(SlotRmapsTest, ThreadsThatNeedTheSameChunkGetTheSame) {
  CountingHost host;
  const auto rmaps = Make(host, {Gfn(7), 20 * k2M});
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&rmaps] {
      for (Gfn gfn(7); gfn < Gfn(20 * k2M); gfn += 100) {
        EXPECT_TRUE(rmaps->EnsureWriteTrack(gfn));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(rmaps->chunks_made(), 20u);
  EXPECT_EQ(rmaps->bytes(), host.bytes()) << "what lost the race went back";
}

TEST(SlotRmapsTest, OwnersTellGfnsLevelsAndSlotsApart) {
  CountingHost host;
  const auto a = Make(host, {Gfn(0), 1 << 20}, 1);
  const auto b = Make(host, {Gfn(0), 1 << 20}, 2);
  std::set<uint32_t> tags;
  for (const auto& rmaps : {a, b}) {
    for (uint64_t gfn = 0; gfn < 1 << 20; gfn += k2M) {
      for (const Level level : {Level::k4K, Level::k2M, Level::k1G}) {
        EXPECT_TRUE(tags.insert(rmaps->Owner(Gfn(gfn), level).bits()).second)
            << Gfn(gfn) << " at " << level;
      }
    }
  }
}

TEST(SlotRmapsDeathTest, PuttingAnSpteOnADyingSlotIsACheck) {
  CountingHost host;
  const auto rmaps = Make(host, {Gfn(0), 10});
  ASSERT_TRUE(rmaps->EnsureChunk(Gfn(1)));
  const SlotList list = rmaps->List(Gfn(1), Level::k4K, kEpoch);
  rmaps->CountAdded(list);
  rmaps->CountAdded(list);
  EXPECT_FALSE(rmaps->remove_only());
  rmaps->SetRemoveOnly();
  EXPECT_TRUE(rmaps->remove_only());
  EXPECT_DEATH(rmaps->CountAdded(list), "on the rmap of a dying slot");
  rmaps->CountRemoved(list, 2);
  EXPECT_EQ(rmaps->leaf_sptes(kEpoch), 0u);
}

TEST(SlotRmapsDeathTest, ShadowingATableOfADyingSlotIsACheck) {
  CountingHost host;
  const auto rmaps = Make(host, {Gfn(0), 10});
  ASSERT_TRUE(rmaps->EnsureWriteTrack(Gfn(1)));
  rmaps->Track(Gfn(1), kEpoch);
  rmaps->SetRemoveOnly();
  EXPECT_DEATH(rmaps->Track(Gfn(1), kEpoch), "shadowed in a dying slot");
  rmaps->Untrack(Gfn(1), kEpoch);
  EXPECT_EQ(rmaps->shadowed_tables(kEpoch), 0u);
}

TEST(SlotRmapsDeathTest, DyingWithSptesOrShadowedTablesIsACheck) {
  CountingHost host;
  auto rmaps = Make(host, {Gfn(0), 10});
  ASSERT_TRUE(rmaps->EnsureChunk(Gfn(1)));
  const SlotList list = rmaps->List(Gfn(1), Level::k4K, kEpoch);
  rmaps->CountAdded(list);
  EXPECT_DEATH(rmaps.reset(), "a slot dies under sptes");
  rmaps->CountRemoved(list, 1);
  ASSERT_TRUE(rmaps->EnsureWriteTrack(Gfn(1)));
  rmaps->Track(Gfn(1), kEpoch);
  EXPECT_DEATH(rmaps.reset(), "dies under shadow pages");
  rmaps->Untrack(Gfn(1), kEpoch);
}

}  // namespace
}  // namespace shadowmmu::testing
