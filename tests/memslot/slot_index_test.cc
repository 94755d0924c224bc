// SlotIndex against a vector that is searched from end to end.

#include "src/memslot/slot_index.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <set>
#include <vector>

#include "tests/memslot/make_slot.h"

namespace shadowmmu::testing {
namespace {

// An entry as the model has it. Ids are unique, keys are not.
struct Item {
  uint64_t key;
  uint64_t end;
  uint32_t id;
};

// An index and what it should hold.
struct Pair {
  SlotIndex index;
  std::vector<Item> model;

  void Add(const Item& item) {
    index = index.With(
        {item.key, item.end, MakeSlot(Spec(item.id, item.key, 1, 0))});
    model.push_back(item);
  }
  void Remove(size_t at) {
    const Item item = model[at];
    index = index.Without(item.key, *MakeSlot(Spec(item.id, 0, 1, 0)));
    model.erase(model.begin() + static_cast<std::ptrdiff_t>(at));
  }
};

std::set<uint32_t> Ids(const std::vector<Item>& model, uint64_t begin,
                       uint64_t end) {
  std::set<uint32_t> ids;
  for (const Item& item : model) {
    if (item.key < end && item.end > begin) ids.insert(item.id);
  }
  return ids;
}

std::set<uint32_t> Overlapping(const SlotIndex& index, uint64_t begin,
                               uint64_t end) {
  std::set<uint32_t> ids;
  index.ForEachOverlap(begin, end, [&](const Memslot& slot) {
    EXPECT_TRUE(ids.insert(ToInt(slot.spec.id)).second) << "visited twice";
  });
  return ids;
}

// The keys are those of the model, in order, and each entry is there once.
void ExpectSame(const Pair& pair) {
  ASSERT_EQ(pair.index.size(), pair.model.size());
  std::vector<uint64_t> keys;
  std::set<uint32_t> ids;
  pair.index.ForEach([&](const Memslot& slot) {
    keys.push_back(slot.spec.base.value());
    ids.insert(ToInt(slot.spec.id));
  });
  ASSERT_TRUE(std::is_sorted(keys.begin(), keys.end()));
  ASSERT_EQ(ids, Ids(pair.model, 0, ~uint64_t{0}));
}

void ExpectNeighbours(const Pair& pair, uint64_t key) {
  const Item* below = nullptr;
  const Item* above = nullptr;
  for (const Item& item : pair.model) {
    if (item.key <= key && (below == nullptr || item.key > below->key)) {
      below = &item;
    }
    if (item.key > key && (above == nullptr || item.key < above->key)) {
      above = &item;
    }
  }
  const SlotIndex::Entry* const at_or_below = pair.index.AtOrBelow(key);
  ASSERT_EQ(at_or_below == nullptr, below == nullptr) << key;
  if (below != nullptr) {
    EXPECT_EQ(at_or_below->key, below->key);
  }
  const SlotIndex::Entry* const next = pair.index.Above(key);
  ASSERT_EQ(next == nullptr, above == nullptr) << key;
  if (above != nullptr) {
    EXPECT_EQ(next->key, above->key);
  }
}

TEST(SlotIndexTest, AnEmptyIndexFindsNothing) {
  const SlotIndex index;
  EXPECT_EQ(index.size(), 0u);
  EXPECT_EQ(index.AtOrBelow(~uint64_t{0}), nullptr);
  EXPECT_EQ(index.Above(0), nullptr);
  EXPECT_TRUE(Overlapping(index, 0, ~uint64_t{0}).empty());
}

TEST(SlotIndexTest, KeepsWhatItWasGiven) {
  const auto slot = MakeSlot(Spec(7, 100, 10, 0x1000));
  const SlotIndex index = SlotIndex().With({100, 110, slot});
  const SlotIndex::Entry* const entry = index.AtOrBelow(105);
  ASSERT_NE(entry, nullptr);
  EXPECT_EQ(entry->key, 100u);
  EXPECT_EQ(entry->end, 110u);
  EXPECT_EQ(entry->slot, slot);
  EXPECT_EQ(index.AtOrBelow(99), nullptr);
  EXPECT_EQ(index.Above(99), entry);
  EXPECT_EQ(index.Above(100), nullptr);
}

// A block holds 128 entries and splits at the next one, wherever it goes.
TEST(SlotIndexTest, SplitsItsBlocksWhateverTheOrderOfInsertion) {
  constexpr uint32_t kCount = 1000;
  std::vector<uint32_t> order(kCount);
  for (uint32_t i = 0; i < kCount; ++i) order[i] = i;
  const std::vector<uint32_t> ascending = order;
  const std::vector<uint32_t> descending(order.rbegin(), order.rend());
  std::shuffle(order.begin(), order.end(), std::mt19937(4));
  for (const auto& ids : {ascending, descending, order}) {
    Pair pair;
    for (const uint32_t id : ids) {
      pair.Add({.key = id * 10ull, .end = id * 10ull + 5, .id = id});
    }
    ExpectSame(pair);
    for (uint64_t key = 0; key < kCount * 10; key += 7) {
      ASSERT_NO_FATAL_FAILURE(ExpectNeighbours(pair, key));
    }
  }
}

TEST(SlotIndexTest, EqualKeysAreToldApartByTheirSlots) {
  // More than two blocks of them, and others around.
  Pair pair;
  pair.Add({.key = 1, .end = 2, .id = 10'000});
  pair.Add({.key = 9, .end = 10, .id = 10'001});
  for (uint32_t id = 0; id < 400; ++id) {
    pair.Add({.key = 5, .end = 6 + id % 3, .id = id});
  }
  ExpectSame(pair);
  EXPECT_EQ(Overlapping(pair.index, 5, 6).size(), 400u);
  EXPECT_EQ(Overlapping(pair.index, 7, 9), Ids(pair.model, 7, 9));
  std::mt19937 random(8);
  while (pair.model.size() > 2) {
    const size_t at = 2 + random() % (pair.model.size() - 2);
    pair.Remove(at);
    ASSERT_NO_FATAL_FAILURE(ExpectSame(pair));
  }
  EXPECT_EQ(pair.index.AtOrBelow(8)->key, 1u);
  EXPECT_EQ(pair.index.Above(1)->key, 9u);
}

TEST(SlotIndexTest, TheSameIdInAnotherSpaceIsAnotherSlot) {
  const auto normal = MakeSlot(Spec(1, 0, 1, 0x1000));
  const auto smm = MakeSlot(Spec(1, 0, 1, 0x1000, AddressSpace::kSmm));
  const SlotIndex index = SlotIndex().With({5, 6, normal}).With({5, 6, smm});
  EXPECT_EQ(index.Without(5, *normal).AtOrBelow(5)->slot, smm);
  EXPECT_EQ(index.Without(5, *smm).AtOrBelow(5)->slot, normal);
}

TEST(SlotIndexTest, TheLastRemovalLeavesAnEmptyIndexThatCanGrowAgain) {
  Pair pair;
  for (uint32_t id = 0; id < 200; ++id) pair.Add({id, id + 1ull, id});
  while (!pair.model.empty()) pair.Remove(pair.model.size() / 2);
  EXPECT_EQ(pair.index.AtOrBelow(~uint64_t{0}), nullptr);
  EXPECT_EQ(pair.index.Above(0), nullptr);
  pair.Add({3, 4, 1});
  ExpectSame(pair);
}

TEST(SlotIndexTest, KeysAtTheEndsOfTheRangeAreFound) {
  Pair pair;
  pair.Add({.key = 0, .end = 1, .id = 0});
  pair.Add({.key = ~uint64_t{0} - 1, .end = ~uint64_t{0}, .id = 1});
  ExpectNeighbours(pair, 0);
  ExpectNeighbours(pair, ~uint64_t{0});
  EXPECT_EQ(Overlapping(pair.index, 0, ~uint64_t{0}).size(), 2u);
}

TEST(SlotIndexDeathTest, RemovingWhatIsNotThereIsACheck) {
  Pair pair;
  for (uint32_t id = 0; id < 300; ++id) pair.Add({id, id + 1ull, id});
  const auto other = MakeSlot(Spec(999, 5, 1, 0));
  EXPECT_DEATH(static_cast<void>(pair.index.Without(5, *other)),
               "no such slot in the index");
}

TEST(SlotIndexTest, AgreesWithAVectorAndNoVersionEverChanges) {
  std::mt19937_64 random(77);
  Pair pair;
  std::vector<Pair> kept;
  uint32_t next_id = 0;
  for (int step = 0; step < 4000; ++step) {
    // Waves of growth and decline, with few different keys, so that many are
    // equal.
    const bool add =
        pair.model.empty() || random() % 100 < (step % 2000 < 1000 ? 75u : 30u);
    if (add) {
      const uint64_t key = random() % 300;
      pair.Add({.key = key, .end = key + 1 + random() % 20, .id = next_id++});
    } else {
      pair.Remove(random() % pair.model.size());
    }
    if (step % 20 == 0) {
      const uint64_t begin = random() % 320;
      const uint64_t end = begin + random() % 40;
      ASSERT_EQ(Overlapping(pair.index, begin, end),
                Ids(pair.model, begin, end));
      ASSERT_NO_FATAL_FAILURE(ExpectNeighbours(pair, random() % 320));
      ASSERT_NO_FATAL_FAILURE(ExpectSame(pair));
    }
    if (step % 100 == 0) kept.push_back(pair);
  }
  for (const Pair& old : kept) {
    ASSERT_NO_FATAL_FAILURE(ExpectSame(old)) << "an old version changed";
    for (uint64_t key = 0; key < 320; key += 11) {
      ASSERT_NO_FATAL_FAILURE(ExpectNeighbours(old, key));
    }
  }
}

}  // namespace
}  // namespace shadowmmu::testing
