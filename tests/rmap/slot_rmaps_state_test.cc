// SlotRmaps: what it knows of each gfn: counts of shadowed tables, heads by
// range, and the epoch that makes all of it old at once.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <set>
#include <tuple>
#include <utility>

#include "src/rmap/slot_rmaps.h"
#include "tests/rmap/counting_host.h"

namespace shadowmmu::testing {
namespace {

constexpr uint64_t kEpoch = 1;
constexpr uint64_t k2M = 512;
constexpr uint64_t k1G = 512 * 512;
constexpr SpteRef kRef{TableIndex{3}, 5};

class SlotState : public ::testing::Test {
 protected:
  explicit SlotState(GfnRange gfns = {Gfn(1000), 3 * k1G})
      : gfns_(gfns), rmaps_(*SlotRmaps::Create(host_, gfns, 1)) {}

  void Track(Gfn gfn) {
    ASSERT_TRUE(rmaps_->EnsureWriteTrack(gfn));
    rmaps_->Track(gfn, kEpoch);
  }
  RmapHead& Head(Gfn gfn, Level level, uint64_t epoch = kEpoch) {
    EXPECT_TRUE(rmaps_->EnsureChunk(gfn));
    return *rmaps_->Head(gfn, level, epoch);
  }
  // Puts an spte on a list, and counts it.
  void Put(Gfn gfn, Level level) {
    Head(gfn, level) = RmapHead::Single(kRef);
    rmaps_->CountAdded(rmaps_->List(gfn, level, kEpoch));
  }
  void CountRemoved(Gfn gfn, Level level, uint64_t epoch = kEpoch) {
    rmaps_->CountRemoved(rmaps_->List(gfn, level, epoch), 1);
  }
  bool Any(Gfn gfn, Level level) {
    if (level == Level::k4K) return rmaps_->Tracked(gfn, kEpoch) != 0;
    return rmaps_->AnyShadowed(gfn, level, kEpoch);
  }

  CountingHost host_;
  const GfnRange gfns_;
  const std::shared_ptr<SlotRmaps> rmaps_;
};

TEST_F(SlotState, ATrackedTableIsSeenAtEveryLevelAroundItAndNowhereElse) {
  const Gfn gfn(k1G + 3 * k2M + 7);
  Track(gfn);
  EXPECT_EQ(rmaps_->Tracked(gfn, kEpoch), 1u);
  EXPECT_TRUE(Any(gfn, Level::k4K));
  EXPECT_TRUE(Any(Gfn(k1G + 3 * k2M), Level::k2M));
  EXPECT_TRUE(Any(Gfn(k1G), Level::k1G));

  EXPECT_EQ(rmaps_->Tracked(gfn + 1, kEpoch), 0u);
  EXPECT_FALSE(Any(gfn - 1, Level::k4K));
  EXPECT_FALSE(Any(Gfn(k1G + 2 * k2M), Level::k2M));
  EXPECT_FALSE(Any(Gfn(k1G + 4 * k2M), Level::k2M));
  EXPECT_FALSE(Any(Gfn(1000), Level::k1G));
  EXPECT_FALSE(Any(Gfn(2 * k1G), Level::k1G));

  rmaps_->Untrack(gfn, kEpoch);
  EXPECT_FALSE(Any(gfn, Level::k4K));
  EXPECT_FALSE(Any(gfn, Level::k2M));
  EXPECT_FALSE(Any(gfn, Level::k1G));
}

TEST_F(SlotState, CountsOfOneChunkAndOneGibAddUp) {
  const Gfn a(k1G);
  const Gfn b(k1G + k2M - 1);  // the same 2M
  const Gfn c(k1G + k2M);      // the same 1G
  Track(a);
  Track(a);
  Track(b);
  Track(c);
  EXPECT_EQ(rmaps_->shadowed_tables(kEpoch), 4u);
  EXPECT_EQ(rmaps_->Tracked(a, kEpoch), 2u);
  EXPECT_EQ(rmaps_->Chunk(a, kEpoch)->shadowed_tables, 3u);
  rmaps_->ForEachGigabyte(kEpoch, [&](Gfn gfn, GigabyteRecord& record) {
    EXPECT_EQ(record.shadowed_tables, gfn == Gfn(k1G) ? 4u : 0u) << gfn;
  });
  for (const Gfn gfn : {a, a, b, c}) rmaps_->Untrack(gfn, kEpoch);
  EXPECT_EQ(rmaps_->shadowed_tables(kEpoch), 0u);
  EXPECT_EQ(rmaps_->Chunk(a, kEpoch)->shadowed_tables, 0u);
}

TEST_F(SlotState, UntrackingWhatIsNotTrackedIsACheck) {
  EXPECT_DEATH(rmaps_->Untrack(Gfn(2000), kEpoch), "is not tracked");
  Track(Gfn(2000));
  EXPECT_DEATH(rmaps_->Untrack(Gfn(2001), kEpoch), "is not tracked");
  rmaps_->Untrack(Gfn(2000), kEpoch);
  EXPECT_DEATH(rmaps_->Untrack(Gfn(2000), kEpoch), "is not tracked");
}

TEST_F(SlotState, TrackingWithoutAReservationIsACheck) {
  EXPECT_DEATH(rmaps_->Track(Gfn(2000), kEpoch), "without a reservation");
  ASSERT_TRUE(rmaps_->EnsureChunk(Gfn(2000)));
  EXPECT_DEATH(rmaps_->Track(Gfn(2000), kEpoch), "without a reservation");
}

TEST_F(SlotState, WhatAnOlderEpochLeftReadsAsEmpty) {
  const Gfn gfn(k1G);
  for (const Level level : {Level::k4K, Level::k2M, Level::k1G}) {
    Put(gfn, level);
  }
  EXPECT_EQ(rmaps_->leaf_sptes(kEpoch), 3u);
  ASSERT_TRUE(rmaps_->EnsureWriteTrack(gfn));
  RmapChunk* const chunk = rmaps_->Chunk(gfn, kEpoch);
  chunk->Count(gfn + 3) = 9;
  chunk->shadowed_tables = 9;
  rmaps_->ForEachGigabyte(
      kEpoch, [](Gfn, GigabyteRecord& record) { record.shadowed_tables = 9; });

  EXPECT_EQ(rmaps_->populated(kEpoch), 2u) << "a chunk and a GiB";
  EXPECT_EQ(rmaps_->populated(kEpoch + 1), 0u);
  EXPECT_FALSE(rmaps_->any_leaf_sptes(kEpoch + 1));
  EXPECT_EQ(rmaps_->leaf_sptes(kEpoch + 1), 0u);
  EXPECT_EQ(rmaps_->PeekChunk(gfn, kEpoch), chunk);
  EXPECT_EQ(rmaps_->PeekChunk(gfn, kEpoch + 1), nullptr);
  rmaps_->ForEachHead(gfns_, kEpoch + 1,
                      [](RmapHead&, Gfn, Level) { FAIL() << "a stale head"; });
  rmaps_->ForEachChunk(kEpoch + 1, [](RmapChunk&) { FAIL() << "stale"; });
  rmaps_->ForEachGigabyte(kEpoch + 1,
                          [](Gfn, GigabyteRecord&) { FAIL() << "stale"; });
  EXPECT_EQ(rmaps_->Tracked(gfn + 3, kEpoch + 1), 0u);
  EXPECT_FALSE(rmaps_->AnyShadowed(gfn, Level::k2M, kEpoch + 1));
  EXPECT_FALSE(rmaps_->AnyShadowed(gfn, Level::k1G, kEpoch + 1));
  for (const Level level : {Level::k4K, Level::k2M, Level::k1G}) {
    EXPECT_TRUE(Head(gfn, level, kEpoch + 1).empty()) << level;
  }
  EXPECT_EQ(chunk->Count(gfn + 3), 0u);
  EXPECT_EQ(chunk->shadowed_tables, 0u);
  EXPECT_EQ(rmaps_->leaf_sptes(kEpoch + 1), 0u) << "they went with their lists";
}

// One list of a slot is used in the new epoch, the others are not: what was
// counted of these must not come back with it.
TEST_F(SlotState, TheSlotCountsAnewWithItsFirstListOfAnEpoch) {
  const Gfn a(k1G);
  const Gfn b(k1G + k2M);
  Put(a, Level::k4K);
  Put(b, Level::k4K);
  Track(a);
  ASSERT_TRUE(Head(b, Level::k4K, kEpoch + 1).empty());
  EXPECT_EQ(rmaps_->populated(kEpoch + 1), 0u);
  EXPECT_EQ(rmaps_->shadowed_tables(kEpoch + 1), 0u);
  rmaps_->CountAdded(rmaps_->List(b, Level::k4K, kEpoch + 1));
  EXPECT_EQ(rmaps_->populated(kEpoch + 1), 1u);
  EXPECT_EQ(rmaps_->leaf_sptes(kEpoch + 1), 1u) << "the other chunk is stale";
  rmaps_->CountRemoved(rmaps_->List(b, Level::k4K, kEpoch + 1), 1);
  EXPECT_FALSE(rmaps_->any_leaf_sptes(kEpoch + 1));
}

TEST_F(SlotState, ASlotWithStaleCountsDiesOnceItIsMadeFresh) {
  Put(Gfn(k1G), Level::k4K);
  Track(Gfn(k1G));
  rmaps_->MakeFresh(kEpoch + 1);
  EXPECT_EQ(rmaps_->populated(kEpoch + 1), 0u);
  EXPECT_EQ(rmaps_->shadowed_tables(kEpoch + 1), 0u);
}  // its destructor would not let it go with them

TEST_F(SlotState, AnEpochThatDiffersInItsHighBitsOnlyIsAnother) {
  const uint64_t far = kEpoch + (uint64_t{1} << 32);
  Head(Gfn(k1G), Level::k4K) = RmapHead::Single(kRef);
  Head(Gfn(k1G), Level::k1G) = RmapHead::Single(kRef);
  EXPECT_TRUE(Head(Gfn(k1G), Level::k4K, far).empty());
  EXPECT_TRUE(Head(Gfn(k1G), Level::k1G, far).empty());
}

TEST_F(SlotState, WithNoSptesNoHeadIsLookedAt) {
  Head(Gfn(2000), Level::k4K) = RmapHead::Single(kRef);  // and not counted
  rmaps_->ForEachHead(gfns_, kEpoch, [](RmapHead&, Gfn, Level) { FAIL(); });
  Put(Gfn(2000), Level::k4K);
  rmaps_->ForEachHead({Gfn(2000), 0}, kEpoch, [](RmapHead&, Gfn, Level) {
    FAIL() << "an empty range";
  });
  CountRemoved(Gfn(2000), Level::k4K);
}

TEST_F(SlotState, TheCallbackMayEmptyTheHead) {
  Put(Gfn(2000), Level::k4K);
  Put(Gfn(2001), Level::k4K);
  int visits = 0;
  for (int i = 0; i < 2; ++i) {
    rmaps_->ForEachHead(gfns_, kEpoch, [&](RmapHead& head, Gfn, Level) {
      ++visits;
      head = RmapHead();
    });
  }
  EXPECT_EQ(visits, 2);
  CountRemoved(Gfn(2000), Level::k4K);
  CountRemoved(Gfn(2001), Level::k4K);
}

// Every shadow page of one guest table counts: there may be one for each level,
// each rights, and each generation that was not reclaimed yet.
TEST_F(SlotState, MoreThan65535ShadowPagesOfOneTableAreCounted) {
  constexpr uint32_t kPages = 70'000;
  const Gfn gfn(2000);
  for (uint32_t i = 0; i < kPages; ++i) Track(gfn);
  EXPECT_EQ(rmaps_->Tracked(gfn, kEpoch), kPages);
  for (uint32_t i = 0; i < kPages; ++i) rmaps_->Untrack(gfn, kEpoch);
  EXPECT_EQ(rmaps_->shadowed_tables(kEpoch), 0u);
}

// Slots that begin and end where they like, heads at all levels, and ranges of
// all kinds, against a set.
class SlotRanges : public SlotState,
                   public ::testing::WithParamInterface<GfnRange> {
 protected:
  // (level, gfn): in the order of the heads' addresses within a level.
  using Key = std::pair<Level, Gfn>;

  SlotRanges() : SlotState(GetParam()) {}

  bool Overlaps(const Key& key, GfnRange gfns) const {
    // What the entry maps, cut to the slot.
    const Gfn begin = std::max(key.second, gfns_.begin);
    const Gfn end =
        std::min(key.second + PagesPerEntry(key.first), gfns_.end());
    return begin < gfns.end() && gfns.begin < end;
  }
  bool Covers(Gfn gfn, Level level) const {
    return AlignDown(gfn, level) >= gfns_.begin &&
           AlignDown(gfn, level) + PagesPerEntry(level) <= gfns_.end();
  }
};

TEST_P(SlotRanges, HeadsAreFoundByEveryRangeThatTheyOverlap) {
  std::mt19937_64 random(3);
  std::set<Key> heads;
  for (int i = 0; i < 300; ++i) {
    const Gfn gfn = gfns_.begin + random() % gfns_.pages;
    const Level level = LevelFromInt(1 + static_cast<unsigned>(random() % 3));
    if (level != Level::k4K && !Covers(gfn, level)) continue;
    const Gfn first = AlignDown(gfn, level);
    if (heads.emplace(level, first).second) Put(first, level);
  }
  EXPECT_EQ(rmaps_->leaf_sptes(kEpoch), heads.size());
  for (int i = 0; i < 500; ++i) {
    const Gfn begin = gfns_.begin + random() % gfns_.pages;
    const uint64_t most = gfns_.end() - begin;
    const uint64_t pages =
        1 + random() % (i % 2 == 0 ? most : std::min<uint64_t>(most, 600));
    const GfnRange range{begin, pages};
    std::set<Key> expected;
    for (const Key& key : heads) {
      if (Overlaps(key, range)) expected.insert(key);
    }
    std::set<Key> found;
    rmaps_->ForEachHead(range, kEpoch, [&](RmapHead&, Gfn gfn, Level level) {
      EXPECT_TRUE(found.emplace(level, gfn).second) << "visited twice";
    });
    ASSERT_EQ(found, expected) << begin << " + " << pages;
  }
  for (const auto& [level, gfn] : heads) CountRemoved(gfn, level);
  EXPECT_FALSE(rmaps_->any_leaf_sptes(kEpoch));
}

INSTANTIATE_TEST_SUITE_P(Slots, SlotRanges,
                         ::testing::Values(GfnRange{Gfn(0), 4 * k1G},
                                           GfnRange{Gfn(k1G - 5), k1G + 10},
                                           GfnRange{Gfn(300), 3 * k2M + 7},
                                           GfnRange{Gfn(511), 1},
                                           GfnRange{Gfn(77), 2 * k1G - 100}));

}  // namespace
}  // namespace shadowmmu::testing
