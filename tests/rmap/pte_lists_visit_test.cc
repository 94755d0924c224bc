// PteLists: removal while a list is visited, removal that touches next to
// nothing however long the list is, and removal of what is not there.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <set>
#include <vector>

#include "src/rmap/pte_lists.h"
#include "tests/rmap/lists_fixture.h"

namespace shadowmmu::testing {
namespace {

class PteListsVisit : public ::testing::Test, protected ListsFixture {
 protected:
  // Visits the list and removes, when they are visited, the entries that
  // `removes(number of the entry)` picks. Every entry must be seen, and the
  // rest be left.
  template <typename Removes>
  void VisitAndRemove(uint32_t length, Removes removes) {
    RmapHead head;
    AddAll(head, Refs(length));
    std::set<uint32_t> seen;
    std::set<uint32_t> removed;
    std::vector<SpteRef> rest;
    for (uint32_t i = 0; i < length; ++i) {
      if (!removes(i)) rest.push_back(Ref(i));
    }
    lists().ForEach(head, [&](SpteRef ref) {
      const uint32_t number = NumberOf(ref);
      seen.insert(number);
      if (!removes(number) || !removed.insert(number).second) return;
      lists().Remove(head, ref, kOwner);
    });
    EXPECT_EQ(seen.size(), length) << "an entry was passed over";
    EXPECT_EQ(Contents(head), Sorted(rest));
    ExpectWellFormed(head);
    for (const SpteRef ref : rest) lists().Remove(head, ref, kOwner);
    ASSERT_TRUE(head.empty());
    ASSERT_EQ(lists().descriptors().in_use(), 0u);
  }

 private:
  static uint32_t NumberOf(SpteRef ref) {
    return (ToInt(ref.table()) - 1) * 40 + ref.index() / 12;
  }
};

TEST_F(PteListsVisit, MayRemoveAnyOneEntryOfAListOfAnyLength) {
  for (uint32_t length = 1; length <= 44; ++length) {
    for (uint32_t position = 0; position < length; ++position) {
      ASSERT_NO_FATAL_FAILURE(VisitAndRemove(
          length, [position](uint32_t number) { return number == position; }))
          << "entry " << position << " of " << length;
    }
  }
}

TEST_F(PteListsVisit, MayRemoveEveryEntry) {
  for (uint32_t length = 1; length <= 100; ++length) {
    ASSERT_NO_FATAL_FAILURE(VisitAndRemove(length, [](uint32_t) {
      return true;
    })) << length;
  }
}

TEST_F(PteListsVisit, MayRemoveAnyThreeEntriesOfAListOfThreeDescriptors) {
  constexpr uint32_t kLength = 31;
  for (uint32_t a = 0; a < kLength; ++a) {
    for (uint32_t b = a; b < kLength; ++b) {
      for (uint32_t c = b; c < kLength; c += 5) {
        ASSERT_NO_FATAL_FAILURE(VisitAndRemove(
            kLength, [=](uint32_t n) { return n == a || n == b || n == c; }));
      }
    }
  }
}

TEST_F(PteListsVisit, MayRemoveAnyChoice) {
  std::mt19937 random(99);
  const auto below = [&random](uint32_t bound) {
    return static_cast<uint32_t>(random() % bound);
  };
  for (int round = 0; round < 2000; ++round) {
    std::vector<bool> chosen(1 + below(90));
    const uint32_t percent = below(101);
    for (size_t i = 0; i < chosen.size(); ++i) {
      chosen[i] = below(100) < percent;
    }
    ASSERT_NO_FATAL_FAILURE(
        VisitAndRemove(static_cast<uint32_t>(chosen.size()),
                       [&](uint32_t number) { return chosen[number]; }));
  }
}

// Removal is O(1): all descriptors but the first and the one that holds the
// entry may be cut off the chain, and not a bit of them changes.
TEST_F(PteListsVisit, RemovalTouchesTheFirstDescriptorAndItsOwnOnly) {
  constexpr uint32_t kLength = 14 * 50 + 3;
  RmapHead head;
  AddAll(head, Refs(kLength));
  std::mt19937 random(5);
  std::vector<SpteRef> left = Refs(kLength);
  std::shuffle(left.begin(), left.end(), random);
  BlockPool<PteListDesc>& descriptors = lists().descriptors();
  while (left.size() > 14) {
    const SpteRef ref = left.back();
    const uint32_t first = head.descriptor();
    const uint32_t own = lists().back_references().Of(ref).descriptor();
    const std::vector<uint32_t> chain = Descriptors(head);
    std::vector<PteListDesc> before;
    for (const uint32_t index : chain) before.push_back(descriptors[index]);
    // Whoever walks from here on walks in a circle.
    for (const uint32_t index : chain) {
      if (index != first) descriptors[index].next = index;
    }
    if (first != own && descriptors[first].count() > 1) {
      descriptors[first].next = first;
    }

    lists().Remove(head, ref, kOwner);

    for (size_t i = 0; i < chain.size(); ++i) {
      if (i == 0 && head.descriptor() != first) continue;  // given back
      descriptors[chain[i]].next = before[i].next;
      if (chain[i] == first || chain[i] == own) continue;
      EXPECT_EQ(
          std::memcmp(&descriptors[chain[i]], &before[i], sizeof(PteListDesc)),
          0)
          << "descriptor " << i << " of the chain was touched";
    }
    left.pop_back();
    ASSERT_EQ(Contents(head), Sorted(left));
    ASSERT_NO_FATAL_FAILURE(ExpectWellFormed(head));
  }
}

// Bug 27: no number of aliases makes it fall back to anything.
TEST(PteListsLong, AHundredThousandEntriesOfOneListComeAndGo) {
  constexpr uint32_t kLength = 100'000;
  ListsFixture lists(kLength / 40 + 2, 1 << 17);
  std::vector<SpteRef> refs = ListsFixture::Refs(kLength);
  RmapHead head;
  lists.AddAll(head, refs);
  EXPECT_EQ(lists.lists().Count(head), kLength);
  EXPECT_EQ(lists.lists().descriptors().in_use(), (kLength + 13) / 14);
  lists.ExpectWellFormed(head);

  std::shuffle(refs.begin(), refs.end(), std::mt19937(1));
  for (size_t i = 0; i < refs.size(); ++i) {
    lists.lists().Remove(head, refs[i], kOwner);
    if (i % 20'000 != 0) continue;
    ASSERT_EQ(lists.Contents(head),
              ListsFixture::Sorted({refs.begin() + i + 1, refs.end()}));
  }
  EXPECT_TRUE(head.empty());
  EXPECT_EQ(lists.lists().descriptors().in_use(), 0u);
}

TEST(PteLists, ClearingGivesEveryDescriptorBackWhateverTheLength) {
  ListsFixture lists;
  for (const uint32_t length : {0u, 1u, 2u, 14u, 15u, 100u}) {
    RmapHead head;
    lists.AddAll(head, ListsFixture::Refs(length));
    lists.lists().Clear(head, kOwner);
    EXPECT_TRUE(head.empty()) << length;
    EXPECT_EQ(lists.lists().descriptors().in_use(), 0u) << length;
    // What was on it can be put on a list again.
    lists.AddAll(head, ListsFixture::Refs(length));
    lists.ExpectWellFormed(head);
    lists.lists().Clear(head, kOwner);
  }
}

class PteListsDeathTest : public ::testing::Test, protected ListsFixture {
 protected:
  void Remove(RmapHead head, SpteRef ref, OwnerTag owner = kOwner) {
    lists().Remove(head, ref, owner);
  }
};

TEST_F(PteListsDeathTest, RemovingFromAnEmptyListIsACheck) {
  EXPECT_DEATH(Remove(RmapHead(), Ref(0)),
               "cannot take spte 1.3. off a list of owner 0xabcdef0: the list "
               "is empty; empty list");
}

TEST_F(PteListsDeathTest, RemovingAnotherThanTheSingleIsACheck) {
  RmapHead head;
  Add(head, Ref(0));
  EXPECT_DEATH(Remove(head, Ref(1)),
               "the list holds another spte; single spte 1.3.");
}

TEST_F(PteListsDeathTest, RemovingFromAChainWhatWasNeverInOneIsACheck) {
  RmapHead head;
  AddAll(head, Refs(3));
  EXPECT_DEATH(Remove(head, SpteRef(TableIndex{99}, 1)),
               "never in a chain; chain of 3");
  EXPECT_DEATH(Remove(head, Ref(3)), "never in a chain; chain of 3");
}

TEST_F(PteListsDeathTest, RemovingTwiceIsACheckThatPrintsTheChain) {
  RmapHead head;
  AddAll(head, Refs(3));
  lists().Remove(head, Ref(0), kOwner);
  EXPECT_DEATH(
      Remove(head, Ref(0)),
      "not where its place says; chain of 2, owner 0xabcdef0: spte 1.15. "
      "spte 1.27.");
}

TEST_F(PteListsDeathTest, RemovingAfterAClearIsACheck) {
  RmapHead head;
  AddAll(head, Refs(3));
  lists().Clear(head, kOwner);
  EXPECT_DEATH(Remove(head, Ref(0)), "the list is empty");
  // Its place still names a descriptor, which is in use again.
  std::vector<SpteRef> others = Refs(5);
  others.erase(others.begin(), others.begin() + 3);
  AddAll(head, others);
  EXPECT_DEATH(Remove(head, Ref(0)), "not where its place says; chain of 2");
}

TEST_F(PteListsDeathTest, ClearingByAnotherKeyIsACheckThatPrintsTheChain) {
  RmapHead head;
  AddAll(head, Refs(2));
  EXPECT_DEATH(lists().Clear(head, OwnerTag(1)),
               "another owner cleared: chain of 2");
}

TEST_F(PteListsDeathTest, RemovingByAnotherKeyIsACheckThatPrintsTheChain) {
  RmapHead head;
  AddAll(head, Refs(2));
  EXPECT_DEATH(Remove(head, Ref(0), OwnerTag(1)),
               "off a list of owner 0x1: it sits on a list of another owner; "
               "chain of 2, owner 0xabcdef0: spte 1.15. spte 1.3.");
}

TEST_F(PteListsDeathTest, RemovingFromTheWrongListIsACheckThatPrintsThatList) {
  RmapHead head;
  RmapHead other;
  AddAll(head, Refs(2));
  Add(other, Ref(10), OwnerTag(7));
  Add(other, Ref(11), OwnerTag(7));
  EXPECT_DEATH(Remove(other, Ref(0)), "another owner; chain of 2, owner 0x7:");
  EXPECT_DEATH(Remove(other, Ref(0), OwnerTag(7)),
               "another owner; chain of 2, owner 0x7:");
}

TEST_F(PteListsDeathTest, AnEntryThatIsNotWhereItsPlaceSaysIsACheck) {
  RmapHead head;
  AddAll(head, Refs(3));
  lists().back_references().Of(Ref(0)) = lists().back_references().Of(Ref(2));
  EXPECT_DEATH(Remove(head, Ref(0)), "not where its place says; chain of 3");
}

TEST_F(PteListsDeathTest, AddingToAListOfAnotherOwnerIsACheck) {
  RmapHead head;
  AddAll(head, Refs(2));
  EXPECT_DEATH(Add(head, Ref(2), OwnerTag(1)),
               "spte 1.27. put on a list of another owner: chain of 2");
}

TEST_F(PteListsDeathTest, AddingTheSingleAgainIsACheck) {
  RmapHead head;
  Add(head, Ref(0));
  EXPECT_DEATH(Add(head, Ref(0)), "is on the list already");
}

TEST_F(PteListsDeathTest, AddingWithoutAReservationIsACheck) {
  RmapHead head;
  Add(head, Ref(0));
  ListsFixture empty;
  RmapHead other;
  empty.AddReserved(other, Ref(0));
  EXPECT_DEATH(empty.AddReserved(other, Ref(1)), "without a reservation");
}

}  // namespace
}  // namespace shadowmmu::testing
