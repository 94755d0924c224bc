#include "src/memslot/slot_registry.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "shadowmmu/default_host.h"
#include "tests/memslot/make_slot.h"

namespace shadowmmu::testing {
namespace {

constexpr AddressSpace kNormal = AddressSpace::kNormal;

void Publish(SlotRegistry& registry, std::unique_ptr<const SlotTable> table) {
  MutexLock update(&registry.update_lock());
  registry.Publish(std::move(table));
}
void Add(SlotRegistry& registry, std::shared_ptr<const Memslot> slot) {
  MutexLock update(&registry.update_lock());
  registry.Publish(registry.Current().With(std::move(slot)));
}
void Remove(SlotRegistry& registry, uint32_t id) {
  MutexLock update(&registry.update_lock());
  const auto slot = registry.Current().FindById(kNormal, SlotId{id});
  ASSERT_NE(slot, nullptr);
  registry.Publish(registry.Current().Without(*slot));
}

TEST(SlotRegistryTest, BeginsWithAnEmptyTable) {
  DefaultHost host;
  const SlotRegistry registry(&host);
  EXPECT_EQ(SlotReader(registry).table().size(), 0u);
}

TEST(SlotRegistryTest, ReadersSeeWhatWasPublishedLast) {
  DefaultHost host;
  SlotRegistry registry(&host);
  Add(registry, MakeSlot(Spec(1, 0, 8, 0x1000)));
  EXPECT_EQ(SlotReader(registry).table().size(), 1u);
  Publish(registry, std::make_unique<const SlotTable>());
  EXPECT_EQ(SlotReader(registry).table().size(), 0u);
}

TEST(SlotRegistryTest, ATableThatIsReplacedIsFreedWithItsSlots) {
  DefaultHost host;
  SlotRegistry registry(&host);
  auto slot = MakeSlot(Spec(1, 0, 8, 0x1000));
  const std::weak_ptr<const Memslot> watch = slot;
  Add(registry, std::move(slot));
  EXPECT_FALSE(watch.expired());
  Remove(registry, 1);
  EXPECT_TRUE(watch.expired()) << "no reader was there to wait for";
}

TEST(SlotRegistryTest, TheLastTableDiesWithTheRegistry) {
  std::weak_ptr<const Memslot> watch;
  DefaultHost host;
  {
    SlotRegistry registry(&host);
    auto slot = MakeSlot(Spec(1, 0, 8, 0x1000));
    watch = slot;
    Add(registry, std::move(slot));
  }
  EXPECT_TRUE(watch.expired());
}

TEST(SlotRegistryTest, PublishingWaitsForTheReadersOfTheOldTable) {
  DefaultHost host;
  SlotRegistry registry(&host);
  auto slot = MakeSlot(Spec(1, 0, 8, 0x1000));
  const std::weak_ptr<const Memslot> watch = slot;
  Add(registry, std::move(slot));

  std::atomic<bool> published{false};
  std::thread updater;
  {
    const SlotReader reader(registry);
    const Memslot* const mine = reader.table().Find(kNormal, Gfn(3));
    ASSERT_NE(mine, nullptr);
    updater = std::thread([&] {
      Remove(registry, 1);
      published = true;
    });
    // New readers get the new table while the old one is still in use.
    while (SlotReader(registry).table().size() != 0) std::this_thread::yield();
    for (int i = 0; i < 1000; ++i) std::this_thread::yield();
    EXPECT_FALSE(published) << "it did not wait for this reader";
    EXPECT_FALSE(watch.expired());
    EXPECT_EQ(mine->spec.pages, 8u);
  }
  updater.join();
  EXPECT_TRUE(watch.expired());
}

TEST(SlotRegistryTest, SectionsNestAndEachKeepsItsTable) {
  DefaultHost host;
  SlotRegistry registry(&host);
  Add(registry, MakeSlot(Spec(1, 0, 8, 0x1000)));
  std::thread updater;
  {
    const SlotReader outer(registry);
    updater = std::thread([&] { Remove(registry, 1); });
    while (SlotReader(registry).table().size() != 0) std::this_thread::yield();
    const SlotReader inner(registry);
    EXPECT_EQ(outer.table().size(), 1u);
    EXPECT_EQ(inner.table().size(), 0u);
  }
  updater.join();
}

TEST(SlotRegistryTest, SerialsNeverRepeat) {
  DefaultHost host;
  SlotRegistry registry(&host);
  std::set<uint64_t> serials;
  MutexLock update(&registry.update_lock());
  for (int i = 0; i < 1000; ++i) {
    EXPECT_TRUE(serials.insert(registry.NextSerial()).second);
  }
}

TEST(SlotRegistryTest, ReadersNeverFindAFreedOrHalfMadeTable) {
  DefaultHost host;
  SlotRegistry registry(&host);
  Add(registry, MakeSlot(Spec(0, 0, 8, 0x1000)));
  std::atomic<bool> stop{false};
  std::vector<std::thread> readers;
  for (int t = 0; t < 3; ++t) {
    readers.emplace_back([&] {
      uint64_t newest = 0;
      while (!stop) {
        const SlotReader reader(registry);
        EXPECT_GE(reader.table().generation(), newest);
        newest = reader.table().generation();
        const Memslot* const slot = reader.table().Find(kNormal, Gfn(4));
        if (slot == nullptr) continue;
        EXPECT_EQ(slot->spec.hva, Hva(0x1000));
        EXPECT_EQ(reader.table().size(), 1u);
      }
    });
  }
  for (uint32_t i = 0; i < 300; ++i) {
    Remove(registry, i);
    Add(registry, MakeSlot(Spec(i + 1, 0, 8, 0x1000)));
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
}

}  // namespace
}  // namespace shadowmmu::testing
