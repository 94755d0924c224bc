// SlotTable against a plain list of slots; and the SlotCache in front of it.

#include "src/memslot/slot_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <tuple>
#include <utility>
#include <vector>

#include "tests/memslot/make_slot.h"

namespace shadowmmu::testing {
namespace {

constexpr AddressSpace kNormal = AddressSpace::kNormal;
constexpr AddressSpace kSmm = AddressSpace::kSmm;
using Table = std::unique_ptr<const SlotTable>;
// What a walk over ranges found: slot by slot, the gfns.
using Parts =
    std::map<std::pair<AddressSpace, uint32_t>, std::pair<uint64_t, uint64_t>>;

Table Start() { return std::make_unique<const SlotTable>(); }
Table Add(const Table& table, const SlotSpec& spec) {
  return table->With(MakeSlot(spec));
}

Parts InGfns(const SlotTable& table, AddressSpace space, GfnRange gfns) {
  Parts parts;
  table.ForEachInGfnRange(space, gfns, [&](const Memslot& slot, GfnRange part) {
    parts[{slot.spec.space, ToInt(slot.spec.id)}] = {part.begin.value(),
                                                     part.pages};
  });
  return parts;
}
Parts InHvas(const SlotTable& table, HvaRange hvas) {
  Parts parts;
  table.ForEachInHvaRange(hvas, [&](const Memslot& slot, GfnRange part) {
    parts[{slot.spec.space, ToInt(slot.spec.id)}] = {part.begin.value(),
                                                     part.pages};
  });
  return parts;
}

TEST(SlotTableTest, TheNextHostAddressIsWhereASlotIsOrBegins) {
  constexpr uint64_t kPage = kPageSize;
  EXPECT_EQ(Start()->NextHva(Hva(0)), std::nullopt);
  Table table = Add(Start(), Spec(0, 0, 4, 16 * kPage));
  table = Add(table, Spec(1, 8, 2, 32 * kPage, kSmm));
  table = Add(table, Spec(2, 16, 30, 18 * kPage));  // over the gap, to 48
  EXPECT_EQ(table->NextHva(Hva(0)), Hva(16 * kPage));
  EXPECT_EQ(table->NextHva(Hva(16 * kPage)), Hva(16 * kPage));
  EXPECT_EQ(table->NextHva(Hva(31 * kPage + 5)), Hva(31 * kPage + 5));
  EXPECT_EQ(table->NextHva(Hva(48 * kPage - 1)), Hva(48 * kPage - 1));
  EXPECT_EQ(table->NextHva(Hva(48 * kPage)), std::nullopt);
  const Table without = table->Without(*table->FindById(kNormal, SlotId{2}));
  EXPECT_EQ(without->NextHva(Hva(20 * kPage)), Hva(32 * kPage));
  EXPECT_EQ(without->NextHva(Hva(34 * kPage)), std::nullopt);
}

TEST(SlotTableTest, AnEmptyTableHasNothing) {
  const Table table = Start();
  EXPECT_EQ(table->size(), 0u);
  EXPECT_EQ(table->Find(kNormal, Gfn(0)), nullptr);
  EXPECT_EQ(table->FindById(kSmm, SlotId{0}), nullptr);
  EXPECT_TRUE(InHvas(*table, {Hva(0), ~uint64_t{0}}).empty());
}

TEST(SlotTableTest, ASlotIsFoundByEachOfItsFramesAndNoOther) {
  const Table table = Add(Start(), Spec(3, 100, 10, 0x7000));
  for (uint64_t gfn = 95; gfn < 115; ++gfn) {
    EXPECT_EQ(table->Find(kNormal, Gfn(gfn)) != nullptr,
              gfn >= 100 && gfn < 110)
        << gfn;
    EXPECT_EQ(table->Find(kSmm, Gfn(gfn)), nullptr);
  }
  EXPECT_NE(table->FindById(kNormal, SlotId{3}), nullptr);
  EXPECT_EQ(table->FindById(kNormal, SlotId{2}), nullptr);
  EXPECT_EQ(table->FindById(kNormal, SlotId{4}), nullptr);
  EXPECT_EQ(table->FindById(kSmm, SlotId{3}), nullptr);
}

TEST(SlotTableTest, AddressSpacesHaveSlotsOfTheirOwn) {
  Table table = Add(Start(), Spec(1, 0, 16, 0x10000));
  table = Add(table, Spec(1, 8, 16, 0x50000, kSmm));
  EXPECT_EQ(table->Find(kNormal, Gfn(8))->spec.hva, Hva(0x10000));
  EXPECT_EQ(table->Find(kSmm, Gfn(8))->spec.hva, Hva(0x50000));
  EXPECT_EQ(table->Find(kSmm, Gfn(0)), nullptr);
  table = table->Without(*table->Find(kNormal, Gfn(8)));
  EXPECT_EQ(table->Find(kNormal, Gfn(8)), nullptr);
  EXPECT_NE(table->Find(kSmm, Gfn(8)), nullptr);
}

TEST(SlotTableTest, EveryVersionIsOfAHigherGeneration) {
  const Table empty = Start();
  const Table one = Add(empty, Spec(1, 0, 16, 0x10000));
  const Table invalid = one->Replacing(
      MakeSlot(one->FindById(kNormal, SlotId{1})->spec, SlotState::kInvalid));
  const Table gone = invalid->Without(*one->FindById(kNormal, SlotId{1}));
  EXPECT_LT(empty->generation(), one->generation());
  EXPECT_LT(one->generation(), invalid->generation());
  EXPECT_LT(invalid->generation(), gone->generation());
}

TEST(SlotTableTest, AnInvalidSlotIsFoundInEveryWay) {
  const Table table =
      Start()->With(MakeSlot(Spec(1, 4, 4, 0x10000), SlotState::kInvalid));
  ASSERT_NE(table->Find(kNormal, Gfn(5)), nullptr);
  EXPECT_FALSE(table->Find(kNormal, Gfn(5))->live());
  EXPECT_NE(table->FindById(kNormal, SlotId{1}), nullptr);
  EXPECT_EQ(InHvas(*table, {Hva(0x11000), 1}).size(), 1u);
  EXPECT_EQ(InGfns(*table, kNormal, {Gfn(0), 100}).size(), 1u);
}

TEST(SlotTableTest, ASlotThatIsReplacedMayStandElsewhere) {
  Table table = Add(Start(), Spec(1, 0, 16, 0x10000));
  table = Add(table, Spec(2, 16, 16, 0x30000));
  const Table old = table->With(MakeSlot(Spec(3, 64, 1, 0x90000)));
  const Table moved = old->Replacing(MakeSlot(Spec(1, 100, 16, 0x10000)));
  EXPECT_EQ(moved->Find(kNormal, Gfn(0)), nullptr);
  EXPECT_EQ(moved->Find(kNormal, Gfn(100))->spec.id, SlotId{1});
  EXPECT_EQ(moved->size(), 3u);
  EXPECT_EQ(old->Find(kNormal, Gfn(0))->spec.id, SlotId{1}) << "old version";
  EXPECT_EQ(InHvas(*moved, {Hva(0x11000), 0x1000}),
            (Parts{{{kNormal, 1}, {101, 1}}}));
}

TEST(SlotTableTest, OverlapsAreFoundAtEitherEndAndInside) {
  Table table = Add(Start(), Spec(1, 100, 10, 0x10000));
  table = Add(table, Spec(2, 200, 10, 0x20000));
  const auto overlap = [&](uint64_t base, uint64_t pages) {
    return table->FindOverlap(kNormal, {Gfn(base), pages}, nullptr) != nullptr;
  };
  EXPECT_FALSE(overlap(0, 100));
  EXPECT_TRUE(overlap(0, 101));
  EXPECT_TRUE(overlap(109, 1));
  EXPECT_FALSE(overlap(110, 90));
  EXPECT_TRUE(overlap(110, 91));
  EXPECT_TRUE(overlap(105, 1));
  EXPECT_TRUE(overlap(0, 1000));
  EXPECT_FALSE(overlap(210, 1000));
  EXPECT_EQ(table->FindOverlap(kSmm, {Gfn(0), 1000}, nullptr), nullptr);
}

TEST(SlotTableTest, AnOverlapWithTheExceptedSlotDoesNotCount) {
  Table table = Add(Start(), Spec(1, 100, 10, 0x10000));
  table = Add(table, Spec(2, 110, 10, 0x20000));
  const SlotId except{1};
  EXPECT_EQ(table->FindOverlap(kNormal, {Gfn(105), 5}, &except), nullptr);
  const Memslot* const other =
      table->FindOverlap(kNormal, {Gfn(105), 6}, &except);
  ASSERT_NE(other, nullptr);
  EXPECT_EQ(other->spec.id, SlotId{2});
}

TEST(SlotTableTest, AHostRangeFindsTheWholePagesThatItTouches) {
  const Table table = Add(Start(), Spec(1, 100, 10, 0x10000));
  const auto part = [&](uint64_t begin, uint64_t bytes) {
    const Parts parts = InHvas(*table, {Hva(begin), bytes});
    return parts.empty() ? std::pair<uint64_t, uint64_t>()
                         : parts.begin()->second;
  };
  EXPECT_EQ(part(0x10000, 1), std::pair(uint64_t{100}, uint64_t{1}));
  EXPECT_EQ(part(0x10fff, 2), std::pair(uint64_t{100}, uint64_t{2}));
  EXPECT_EQ(part(0x12800, 0x1000), std::pair(uint64_t{102}, uint64_t{2}));
  EXPECT_EQ(part(0, 0x10001), std::pair(uint64_t{100}, uint64_t{1}));
  EXPECT_EQ(part(0x19fff, 0x1000), std::pair(uint64_t{109}, uint64_t{1}));
  EXPECT_EQ(part(0, ~uint64_t{0}), std::pair(uint64_t{100}, uint64_t{10}));
  EXPECT_EQ(part(0, 0x10000).second, 0u);
  EXPECT_EQ(part(0x1a000, 0x1000).second, 0u);
  EXPECT_EQ(part(0x10000, 0).second, 0u);
}

TEST(SlotTableTest, TheLastPageOfTheHostsAddressSpaceIsFound) {
  const uint64_t top = ~uint64_t{0} - 0xfff;
  Table table = Add(Start(), Spec(1, 0, 2, top - 0x1000));
  table = Add(table, Spec(2, 10, 1, 0));
  EXPECT_EQ(InHvas(*table, {Hva(top), 0x1000}),
            (Parts{{{kNormal, 1}, {1, 1}}}));
  EXPECT_EQ(InHvas(*table, {Hva(~uint64_t{0}), 1}),
            (Parts{{{kNormal, 1}, {1, 1}}}));
  EXPECT_EQ(InHvas(*table, {Hva(0), 1}), (Parts{{{kNormal, 2}, {10, 1}}}));
}

TEST(SlotTableTest, SlotsComeBySpaceAndThenByBase) {
  Table table = Add(Start(), Spec(1, 50, 1, 0x1000, kSmm));
  table = Add(table, Spec(2, 90, 1, 0x9000));
  table = Add(table, Spec(3, 10, 1, 0xf000));
  table = Add(table, Spec(4, 0, 1, 0x5000, kSmm));
  std::vector<uint32_t> ids;
  table->ForEach(
      [&](const Memslot& slot) { ids.push_back(ToInt(slot.spec.id)); });
  EXPECT_EQ(ids, (std::vector<uint32_t>{3, 2, 4, 1}));
}

TEST(SlotCacheTest, AnswersAsTheTableOfTheMomentDoes) {
  Table old = Add(Start(), Spec(1, 0, 16, 0x10000));
  old = Add(old, Spec(2, 16, 16, 0x20000, kSmm));
  const Table next = old->Replacing(MakeSlot(Spec(1, 16, 16, 0x10000)));
  SlotCache cache;
  EXPECT_EQ(cache.Find(*old, kNormal, Gfn(3)), old->Find(kNormal, Gfn(3)));
  EXPECT_EQ(cache.Find(*old, kNormal, Gfn(4)), old->Find(kNormal, Gfn(4)));
  EXPECT_EQ(cache.Find(*old, kSmm, Gfn(3)), nullptr);
  EXPECT_EQ(cache.Find(*old, kNormal, Gfn(20)), nullptr);
  EXPECT_EQ(cache.Find(*old, kSmm, Gfn(20)), old->Find(kSmm, Gfn(20)));
  EXPECT_EQ(cache.Find(*old, kNormal, Gfn(3)), old->Find(kNormal, Gfn(3)));
  EXPECT_EQ(cache.Find(*next, kNormal, Gfn(3)), nullptr) << "it moved";
  EXPECT_EQ(cache.Find(*next, kNormal, Gfn(20)), next->Find(kNormal, Gfn(20)));
  EXPECT_EQ(cache.Find(*old, kNormal, Gfn(3)), old->Find(kNormal, Gfn(3)));
}

// Slots close together, and slots as far apart as shares a place.
TEST(SlotCacheTest, AnswersAsTheTableDoesWhateverElseWasAsked) {
  constexpr uint64_t kFar = uint64_t{1} << 21;  // 8 GiB
  Table table = Start();
  uint32_t id = 0;
  for (const uint64_t base : {uint64_t{0}, kFar, 2 * kFar, 3 * kFar}) {
    for (uint64_t i = 0; i < 5; ++i) {
      const uint64_t hva = (base + i * 10) << kPageShift;
      table = Add(table, Spec(id, base + i * 10, 7, hva));
      table = Add(table, Spec(id, base + i * 10 + 3, 5, hva, kSmm));
      ++id;
    }
  }
  SlotCache cache;
  std::mt19937 random(3);
  for (int i = 0; i < 20'000; ++i) {
    const AddressSpace space = random() % 2 == 0 ? kNormal : kSmm;
    const Gfn gfn(random() % 4 * kFar + random() % 60);
    ASSERT_EQ(cache.Find(*table, space, gfn), table->Find(space, gfn)) << gfn;
  }
}

}  // namespace
}  // namespace shadowmmu::testing
