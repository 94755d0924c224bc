// SlotTable under random change, against a plain list; and with as many slots
// as a hypervisor may have.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "src/memslot/slot_table.h"
#include "tests/memslot/make_slot.h"

namespace shadowmmu::testing {
namespace {

constexpr AddressSpace kNormal = AddressSpace::kNormal;
constexpr uint64_t kFrames = 4000;

// A version of the table, and the slots that it should have.
struct Version {
  std::shared_ptr<const SlotTable> table = std::make_shared<SlotTable>();
  std::vector<SlotSpec> model;

  const SlotSpec* At(AddressSpace space, Gfn gfn) const {
    for (const SlotSpec& spec : model) {
      if (spec.space == space && spec.gfns().Contains(gfn)) return &spec;
    }
    return nullptr;
  }
  bool Fits(const SlotSpec& wanted) const {
    return std::none_of(model.begin(), model.end(), [&](const SlotSpec& spec) {
      return spec.space == wanted.space &&
             (spec.id == wanted.id || (spec.base < wanted.gfns().end() &&
                                       wanted.base < spec.gfns().end()));
    });
  }
};

class SlotTableModel : public ::testing::Test {
 protected:
  uint64_t Below(uint64_t bound) { return random_() % bound; }
  AddressSpace AnySpace() { return static_cast<AddressSpace>(Below(2)); }
  SlotSpec AnySpec() {
    // Few hvas, so that many slots have the same memory.
    return Spec(static_cast<uint32_t>(Below(500)), Below(kFrames),
                1 + Below(20), (1 + Below(40)) << 14, AnySpace());
  }

  void Step(Version& now) {
    const uint64_t choice = Below(100);
    if (choice < grow_ || now.model.empty()) {
      const SlotSpec spec = AnySpec();
      if (!now.Fits(spec)) return;
      now.table = now.table->With(MakeSlot(spec));
      now.model.push_back(spec);
      return;
    }
    SlotSpec& victim = now.model[Below(now.model.size())];
    if (choice < grow_ + 15) {
      victim.base = Gfn(kFrames + Below(kFrames) * 100);
      now.table = now.table->Replacing(MakeSlot(victim));
      // Out there they may overlap, which the model does not allow: put it
      // back where it cannot.
      victim.base = Gfn(1'000'000 + ToInt(victim.id) * 64);
      now.table = now.table->Replacing(MakeSlot(victim));
      return;
    }
    now.table =
        now.table->Without(*now.table->FindById(victim.space, victim.id));
    std::swap(victim, now.model.back());
    now.model.pop_back();
  }

  void ExpectSame(const Version& version) {
    ASSERT_EQ(version.table->size(), version.model.size());
    for (const SlotSpec& spec : version.model) {
      const auto by_id = version.table->FindById(spec.space, spec.id);
      ASSERT_NE(by_id, nullptr);
      EXPECT_EQ(by_id->spec, spec);
    }
    for (int i = 0; i < 50; ++i) {
      const AddressSpace space = AnySpace();
      const Gfn gfn(Below(kFrames + 30));
      const SlotSpec* const expected = version.At(space, gfn);
      const Memslot* const found = version.table->Find(space, gfn);
      ASSERT_EQ(found == nullptr, expected == nullptr) << gfn;
      if (found != nullptr) {
        EXPECT_EQ(found->spec, *expected);
      }
    }
    ExpectSameParts(version);
  }

  void ExpectSameParts(const Version& version) {
    const HvaRange hvas{Hva(Below(50) << 13), 1 + Below(100'000)};
    uint64_t pages = 0;
    size_t slots = 0;
    version.table->ForEachInHvaRange(
        hvas, [&](const Memslot& slot, GfnRange part) {
          ++slots;
          pages += part.pages;
          EXPECT_TRUE(hvas.Overlaps({slot.ToHva(part.begin), kPageSize}));
          EXPECT_TRUE(hvas.Overlaps({slot.ToHva(part.end() - 1), kPageSize}));
        });
    uint64_t expected_pages = 0;
    size_t expected_slots = 0;
    for (const SlotSpec& spec : version.model) {
      uint64_t own = 0;
      for (uint64_t i = 0; i < spec.pages; ++i) {
        own += hvas.Overlaps({spec.hva + i * kPageSize, kPageSize});
      }
      expected_pages += own;
      expected_slots += own != 0;
    }
    EXPECT_EQ(slots, expected_slots);
    EXPECT_EQ(pages, expected_pages);

    const GfnRange gfns{Gfn(Below(kFrames)), 1 + Below(300)};
    uint64_t found = 0;
    version.table->ForEachInGfnRange(
        kNormal, gfns,
        [&](const Memslot&, GfnRange part) { found += part.pages; });
    uint64_t expected = 0;
    for (uint64_t i = 0; i < gfns.pages; ++i) {
      expected += version.At(kNormal, gfns.begin + i) != nullptr;
    }
    EXPECT_EQ(found, expected);
  }

  std::mt19937_64 random_{11};
  uint64_t grow_ = 60;
};

TEST_F(SlotTableModel, AgreesWithAListAndNoVersionEverChanges) {
  Version now;
  std::vector<Version> kept;
  for (int step = 0; step < 3000; ++step) {
    grow_ = step / 1000 == 1 ? 20 : 70;
    const uint64_t generation = now.table->generation();
    const size_t slots = now.model.size();
    Step(now);
    if (now.model.size() != slots) {
      ASSERT_GT(now.table->generation(), generation);
    }
    if (step % 10 == 0) {
      ASSERT_NO_FATAL_FAILURE(ExpectSame(now)) << "step " << step;
    }
    if (step % 100 == 0) kept.push_back(now);
  }
  for (const Version& old : kept) {
    ASSERT_NO_FATAL_FAILURE(ExpectSame(old)) << "an old version changed";
  }
}

// 32,764: the ids that KVM has left for user memory.
TEST(SlotTableMany, ManySlotsAreFoundByGfnByIdAndByHva) {
  constexpr uint32_t kSlots = 32'764;
  constexpr uint64_t kStride = 8;  // gfns, of which a slot has 4
  std::vector<uint32_t> order(kSlots);
  for (uint32_t i = 0; i < kSlots; ++i) order[i] = i;
  std::shuffle(order.begin(), order.end(), std::mt19937(6));
  const auto spec_of = [](uint32_t id) {
    // Hvas in another order than gfns.
    const uint64_t hva = (uint64_t{id} * 12'347 % kSlots + 16) << 16;
    return Spec(id, id * kStride, 4, hva);
  };

  std::unique_ptr<const SlotTable> table = std::make_unique<SlotTable>();
  for (const uint32_t id : order) table = table->With(MakeSlot(spec_of(id)));

  EXPECT_EQ(table->size(), kSlots);
  for (uint32_t id = 0; id < kSlots; ++id) {
    const SlotSpec spec = spec_of(id);
    const auto slot = table->FindById(kNormal, SlotId{id});
    ASSERT_NE(slot, nullptr) << id;
    ASSERT_EQ(slot->spec, spec);
    ASSERT_EQ(table->Find(kNormal, spec.base), slot.get());
    ASSERT_EQ(table->Find(kNormal, spec.base + 3), slot.get());
    ASSERT_EQ(table->Find(kNormal, spec.base + 4), nullptr);
    if (id % 16 != 0) continue;
    std::optional<SlotId> found;
    table->ForEachInHvaRange({spec.hva + 0x2000, 1},
                             [&](const Memslot& other, GfnRange part) {
                               EXPECT_EQ(part, (GfnRange{spec.base + 2, 1}));
                               EXPECT_FALSE(found.has_value());
                               found = other.spec.id;
                             });
    ASSERT_EQ(found, SlotId{id});
  }
  for (uint32_t id = 0; id < kSlots; id += 64) {
    table = table->Without(*table->FindById(kNormal, SlotId{id}));
    ASSERT_EQ(table->Find(kNormal, spec_of(id).base), nullptr);
  }
  EXPECT_EQ(table->size(), kSlots - kSlots / 64 - 1);
}

}  // namespace
}  // namespace shadowmmu::testing
