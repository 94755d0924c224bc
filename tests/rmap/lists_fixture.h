// A PteLists of its own, and what tests of lists want to know about it.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_TESTS_RMAP_LISTS_FIXTURE_H_
#define SHADOWMMU_TESTS_RMAP_LISTS_FIXTURE_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "src/rmap/pte_lists.h"
#include "tests/harness/test_host.h"

namespace shadowmmu::testing {

inline constexpr OwnerTag kOwner{0xabc'def0};

class ListsFixture {
 public:
  explicit ListsFixture(uint32_t tables = 256, uint32_t descriptors = 1 << 16)
      : lists_(host_, tables, descriptors, /*reserves=*/1) {
    EXPECT_TRUE(lists_.Init());
  }

  PteLists& lists() { return lists_; }
  TestHost& host() { return host_; }

  // Different for each `number`; 40 of each table.
  static SpteRef Ref(uint32_t number) {
    return SpteRef(TableIndex{1 + number / 40}, number % 40 * 12 + 3);
  }
  static std::vector<SpteRef> Refs(uint32_t count) {
    std::vector<SpteRef> refs;
    for (uint32_t i = 0; i < count; ++i) refs.push_back(Ref(i));
    return refs;
  }

  // What make_room does before an Add.
  void Reserve() {
    Grow(lists_.descriptors(), PteLists::kAddDescriptors);
    Grow(lists_.back_references().pool(), PteLists::kAddPlaceArrays);
    // What was not taken goes back, so that the pools count what is on lists.
    lists_.EmptyReserve(reserve_);
    reserve_.descriptors.Push(lists_.descriptors().Take());
    for (uint32_t i = 0; i < PteLists::kAddPlaceArrays; ++i) {
      reserve_.place_arrays.Push(lists_.back_references().pool().Take());
    }
  }
  void Add(RmapHead& head, SpteRef ref, OwnerTag owner = kOwner) {
    Reserve();
    AddReserved(head, ref, owner);
    lists_.EmptyReserve(reserve_);
  }
  // With what Reserve has taken.
  void AddReserved(RmapHead& head, SpteRef ref, OwnerTag owner = kOwner) {
    lists_.Add(head, ref, owner, reserve_);
  }
  void AddAll(RmapHead& head, const std::vector<SpteRef>& refs) {
    for (const SpteRef ref : refs) Add(head, ref);
  }

  // In the order in which ForEach visits.
  std::vector<SpteRef> Visited(RmapHead head) const {
    std::vector<SpteRef> refs;
    lists_.ForEach(head, [&refs](SpteRef ref) { refs.push_back(ref); });
    return refs;
  }
  std::vector<SpteRef> Contents(RmapHead head) const {
    return Sorted(Visited(head));
  }
  static std::vector<SpteRef> Sorted(std::vector<SpteRef> refs) {
    std::sort(refs.begin(), refs.end(),
              [](SpteRef a, SpteRef b) { return a.bits() < b.bits(); });
    return refs;
  }

  // The chain's descriptors, from its head on; empty where it is none.
  std::vector<uint32_t> Descriptors(RmapHead head) const {
    std::vector<uint32_t> indices;
    if (!head.chain()) return indices;
    for (uint32_t i = head.descriptor(); i != 0;
         i = lists_.descriptors()[i].next) {
      indices.push_back(i);
    }
    return indices;
  }
  // As pte_list_desc.h says, and that every entry knows its place.
  void ExpectWellFormed(RmapHead head, OwnerTag owner = kOwner) const {
    bool first = true;
    for (const uint32_t index : Descriptors(head)) {
      const PteListDesc& desc = lists_.descriptors()[index];
      EXPECT_EQ(desc.owner(), owner);
      EXPECT_GE(desc.count(), first ? 1 : PteListDesc::kCapacity);
      ASSERT_LE(desc.count(), PteListDesc::kCapacity);
      for (unsigned i = 0; i < desc.count(); ++i) {
        ASSERT_TRUE(lists_.back_references().Has(desc.sptes[i].table()));
        EXPECT_EQ(lists_.back_references().Of(desc.sptes[i]), Place(index, i))
            << desc.sptes[i];
      }
      first = false;
    }
  }

 private:
  template <typename T>
  static void Grow(BlockPool<T>& pool, uint32_t count) {
    while (pool.available() < count && !pool.at_limit()) {
      pool.FreeBlock(pool.AddBlock(pool.AllocateBlock()));
    }
  }

  TestHost host_{TestHost::Options{.frames = 1}};
  PteLists lists_;
  ListReserve reserve_;
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_RMAP_LISTS_FIXTURE_H_
