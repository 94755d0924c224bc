// PteLists: growth, order, removal, against the simplest model of it.

#include "src/rmap/pte_lists.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "tests/rmap/lists_fixture.h"

namespace shadowmmu::testing {
namespace {

class PteListsTest : public ::testing::Test, protected ListsFixture {};

// A single needs no descriptor; a chain fills all but its first.
uint32_t DescriptorsFor(size_t entries) {
  return static_cast<uint32_t>((entries + PteListDesc::kCapacity - 1) /
                               PteListDesc::kCapacity);
}

TEST_F(PteListsTest, AnEmptyListHasNothing) {
  EXPECT_EQ(lists().Count(RmapHead()), 0u);
  EXPECT_TRUE(lists().Newest(RmapHead()).nil());
  EXPECT_TRUE(Visited(RmapHead()).empty());
  EXPECT_FALSE(lists().Contains(RmapHead(), Ref(0)));
  EXPECT_EQ(lists().Print(RmapHead()), "empty list");
}

TEST_F(PteListsTest, ASingleEntryTakesNothingFromThePools) {
  RmapHead head;
  AddReserved(head, Ref(0));  // with no reservation
  EXPECT_FALSE(head.chain());
  EXPECT_EQ(lists().Newest(head), Ref(0));
  EXPECT_EQ(Visited(head), Refs(1));
  EXPECT_EQ(lists().Print(head), "single spte 1[3]");
  lists().Remove(head, Ref(0), kOwner);
  EXPECT_TRUE(head.empty());
}

TEST_F(PteListsTest, TheSecondEntryGivesTheFirstAPlaceInItsOwnTable) {
  RmapHead head;
  const SpteRef first(TableIndex{9}, 0);
  const SpteRef second(TableIndex{200}, 511);
  Add(head, first);
  EXPECT_FALSE(lists().back_references().Has(first.table()));
  Add(head, second);
  EXPECT_TRUE(head.chain());
  ExpectWellFormed(head);
  EXPECT_EQ(lists().back_references().pool().in_use(), 2u);
}

TEST_F(PteListsTest, AChainStaysOneUntilItsLastEntryIsGone) {
  RmapHead head;
  AddAll(head, Refs(2));
  lists().Remove(head, Ref(0), kOwner);
  EXPECT_TRUE(head.chain());
  ExpectWellFormed(head);
  EXPECT_EQ(lists().descriptors().in_use(), 1u);
  lists().Remove(head, Ref(1), kOwner);
  EXPECT_TRUE(head.empty());
  EXPECT_EQ(lists().descriptors().in_use(), 0u);
  Add(head, Ref(1));
  EXPECT_FALSE(head.chain()) << "it begins again as a single";
}

TEST_F(PteListsTest, DroppingATableGivesItsPlacesBack) {
  RmapHead head;
  AddAll(head, Refs(100));  // of three tables
  EXPECT_EQ(lists().back_references().pool().in_use(), 3u);
  for (const SpteRef ref : Refs(40)) lists().Remove(head, ref, kOwner);
  lists().DropTable(TableIndex{1});
  EXPECT_EQ(lists().back_references().pool().in_use(), 2u);
  EXPECT_FALSE(lists().back_references().Has(TableIndex{1}));
  lists().DropTable(TableIndex{1});   // has none
  lists().DropTable(TableIndex{77});  // never had one
  EXPECT_EQ(lists().back_references().pool().in_use(), 2u);
  ExpectWellFormed(head);
}

TEST_F(PteListsTest, ATableMayComeBackWithPlacesOfAnother) {
  RmapHead head;
  AddAll(head, Refs(80));
  for (const SpteRef ref : Refs(80)) lists().Remove(head, ref, kOwner);
  lists().DropTable(TableIndex{1});
  lists().DropTable(TableIndex{2});
  const std::vector<SpteRef> refs = {SpteRef(TableIndex{5}, 3),
                                     SpteRef(TableIndex{5}, 0),
                                     SpteRef(TableIndex{6}, 15)};
  AddAll(head, refs);
  ExpectWellFormed(head);
  for (const SpteRef ref : refs) lists().Remove(head, ref, kOwner);
  EXPECT_TRUE(head.empty());
}

TEST_F(PteListsTest, PrintsAChainWithItsLengthAndOwnerAndTheNewestFirst) {
  RmapHead head;
  AddAll(head, Refs(3));
  EXPECT_EQ(lists().Print(head),
            "chain of 3, owner 0xabcdef0: spte 1[27] spte 1[15] spte 1[3]");
}

TEST_F(PteListsTest, PrintsAtMost40Entries) {
  RmapHead head;
  AddAll(head, Refs(41));
  const std::string text = lists().Print(head);
  EXPECT_EQ(text.find("chain of 41"), 0u) << text;
  EXPECT_EQ(text.substr(text.size() - 4), " ...") << text;
  EXPECT_EQ(text.find(" spte 1[3]"), std::string::npos) << text;
}

TEST_F(PteListsTest, MaxDescriptorsBelow28BitsIsACheck) {
  EXPECT_DEATH(PteLists(host(), 16, kMaxDescriptors, 1), "kMaxDescriptors");
}

class PteListsLength : public PteListsTest,
                       public ::testing::WithParamInterface<uint32_t> {};

TEST_P(PteListsLength, NeedsADescriptorForEvery14Entries) {
  const uint32_t n = GetParam();
  RmapHead head;
  AddAll(head, Refs(n));
  EXPECT_EQ(lists().descriptors().in_use(), n < 2 ? 0 : DescriptorsFor(n));
  EXPECT_EQ(Descriptors(head).size(), lists().descriptors().in_use());
  EXPECT_EQ(lists().Count(head), n);
  ExpectWellFormed(head);
  for (uint32_t i = 0; i < n; ++i) {
    EXPECT_TRUE(lists().Contains(head, Ref(i))) << i;
  }
  EXPECT_FALSE(lists().Contains(head, Ref(n)));
}

TEST_P(PteListsLength, IsVisitedFromTheNewestDown) {
  std::vector<SpteRef> refs = Refs(GetParam());
  RmapHead head;
  AddAll(head, refs);
  EXPECT_EQ(lists().Newest(head), refs.back());
  std::reverse(refs.begin(), refs.end());
  EXPECT_EQ(Visited(head), refs);
}

INSTANTIATE_TEST_SUITE_P(Lengths, PteListsLength,
                         ::testing::Values(1, 2, 3, 13, 14, 15, 16, 27, 28, 29,
                                           42, 43, 100, 1000));

enum class Order { kFifo, kLifo, kRandom };

class PteListsRemoval
    : public PteListsTest,
      public ::testing::WithParamInterface<std::tuple<uint32_t, Order>> {};

TEST_P(PteListsRemoval, LeavesTheRestWhateverTheOrder) {
  const auto [n, order] = GetParam();
  std::vector<SpteRef> refs = Refs(n);
  RmapHead head;
  AddAll(head, refs);
  if (order == Order::kLifo) std::reverse(refs.begin(), refs.end());
  if (order == Order::kRandom) {
    std::shuffle(refs.begin(), refs.end(), std::mt19937(n));
  }
  while (!refs.empty()) {
    lists().Remove(head, refs.front(), kOwner);
    refs.erase(refs.begin());
    ASSERT_EQ(Contents(head), Sorted(refs));
    ASSERT_NO_FATAL_FAILURE(ExpectWellFormed(head));
    if (n >= 2) {
      ASSERT_EQ(lists().descriptors().in_use(), DescriptorsFor(refs.size()));
    }
  }
  EXPECT_TRUE(head.empty());
}

INSTANTIATE_TEST_SUITE_P(
    Orders, PteListsRemoval,
    ::testing::Combine(::testing::Values(1, 2, 3, 14, 15, 28, 29, 57, 200),
                       ::testing::Values(Order::kFifo, Order::kLifo,
                                         Order::kRandom)));

// Many lists at once, of short and long chains that come and go, against a
// multimap.
TEST_F(PteListsTest, AgreesWithAMultimapUnderRandomUse) {
  constexpr uint32_t kHeads = 6;
  constexpr uint32_t kRefs = 600;
  std::mt19937 random(20240229);
  const auto below = [&random](uint32_t bound) {
    return static_cast<uint32_t>(random() % bound);
  };
  std::vector<RmapHead> heads(kHeads);
  std::multimap<uint32_t, SpteRef> model;        // head, entry
  std::vector<uint32_t> head_of(kRefs, kHeads);  // kHeads: on no list
  const auto owner_of = [](uint32_t head) { return OwnerTag(head * 1001 + 1); };

  for (int step = 0; step < 30'000; ++step) {
    const uint32_t number = below(kRefs);
    const SpteRef ref = Ref(number);
    uint32_t& at = head_of[number];
    // Waves, so that lists grow long and die.
    const bool add =
        at == kHeads && below(100) < (step % 6000 < 3000 ? 90 : 20);
    if (add) {
      at = below(10) < 6 ? 0 : below(kHeads);
      Add(heads[at], ref, owner_of(at));
      model.emplace(at, ref);
    } else if (at != kHeads) {
      lists().Remove(heads[at], ref, owner_of(at));
      const auto [begin, end] = model.equal_range(at);
      model.erase(std::find_if(
          begin, end, [&](const auto& entry) { return entry.second == ref; }));
      at = kHeads;
    }
    if (step % 50 != 0) continue;
    uint32_t descriptors = 0;
    for (uint32_t head = 0; head < kHeads; ++head) {
      std::vector<SpteRef> expected;
      const auto [begin, end] = model.equal_range(head);
      for (auto it = begin; it != end; ++it) expected.push_back(it->second);
      ASSERT_EQ(Contents(heads[head]), Sorted(expected)) << "step " << step;
      ASSERT_NO_FATAL_FAILURE(ExpectWellFormed(heads[head], owner_of(head)));
      descriptors += static_cast<uint32_t>(Descriptors(heads[head]).size());
    }
    ASSERT_EQ(lists().descriptors().in_use(), descriptors);
  }
}

}  // namespace
}  // namespace shadowmmu::testing
