#include "src/base/block_pool.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <set>
#include <tuple>
#include <vector>

#include "tests/harness/test_host.h"

namespace shadowmmu::testing {
namespace {

struct Thing {
  uint32_t link;
  uint32_t rest[3];
};
using Pool = BlockPool<Thing>;

class BlockPoolTest : public ::testing::Test {
 protected:
  // Adds one block; false where there is no memory.
  bool Grow(Pool& pool) {
    Thing* const block = pool.AllocateBlock();
    if (block == nullptr) return false;
    pool.FreeBlock(pool.AddBlock(block));
    return true;
  }
  void GrowTo(Pool& pool, uint32_t available) {
    while (pool.available() < available && !pool.at_limit()) {
      ASSERT_TRUE(Grow(pool));
    }
  }

  TestHost host_{TestHost::Options{.frames = 1}};
};
using BlockPoolDeathTest = BlockPoolTest;

TEST_F(BlockPoolTest, HoldsNothingBeforeItIsGivenABlock) {
  Pool pool(host_, 100, 3);
  EXPECT_EQ(pool.bytes(), 0u);
  ASSERT_TRUE(pool.Init());
  EXPECT_EQ(pool.available(), 0u);
  EXPECT_EQ(pool.in_use(), 0u);
  EXPECT_FALSE(pool.at_limit());
  EXPECT_EQ(pool.bytes(), host_.bytes_outstanding());
}

TEST_F(BlockPoolTest, TheFirstBlockLacksIndexZeroAndTheOthersLackNothing) {
  Pool pool(host_, 100, 3);
  ASSERT_TRUE(pool.Init());
  ASSERT_TRUE(Grow(pool));
  EXPECT_EQ(pool.available(), 7u);
  ASSERT_TRUE(Grow(pool));
  EXPECT_EQ(pool.available(), 15u);
  EXPECT_EQ(pool.bytes(), host_.bytes_outstanding());
}

TEST_F(BlockPoolTest, ObjectsAreZeroedAndApartAndNeverNil) {
  Pool pool(host_, 100, 3);
  ASSERT_TRUE(pool.Init());
  GrowTo(pool, 20);
  std::set<uint32_t> indices;
  std::set<const Thing*> addresses;
  for (int i = 0; i < 20; ++i) {
    const uint32_t index = pool.Take();
    EXPECT_NE(index, 0u);
    EXPECT_TRUE(indices.insert(index).second) << index << " taken twice";
    const Thing& thing = pool[index];
    EXPECT_TRUE(addresses.insert(&thing).second);
    EXPECT_EQ(std::tie(thing.link, thing.rest[0], thing.rest[2]),
              std::tuple(0u, 0u, 0u));
    pool[index].rest[2] = ~0u;
  }
  EXPECT_EQ(pool.in_use(), 20u);
}

TEST_F(BlockPoolTest, WhatWasPutBackLastIsTakenFirstAsItWasLeft) {
  Pool pool(host_, 100, 3);
  ASSERT_TRUE(pool.Init());
  GrowTo(pool, 7);
  const uint32_t a = pool.Take();
  const uint32_t b = pool.Take();
  pool[a].rest[1] = 11;
  pool[b].rest[1] = 22;
  pool.Put(a);
  pool.Put(b);
  EXPECT_EQ(pool.in_use(), 0u);
  EXPECT_EQ(pool.available(), 7u);
  EXPECT_EQ(pool.Take(), b);
  EXPECT_EQ(pool.Take(), a);
  EXPECT_EQ(pool[a].rest[1], 11u);
  EXPECT_EQ(pool[b].rest[1], 22u);
}

TEST_F(BlockPoolTest, AFullPoolThatGrowsGoesOnWithWhatIsLeft) {
  Pool pool(host_, 30, 2);
  ASSERT_TRUE(pool.Init());
  ASSERT_TRUE(Grow(pool));
  for (int i = 0; i < 3; ++i) pool.Take();
  EXPECT_EQ(pool.available(), 0u);
  ASSERT_TRUE(Grow(pool));
  EXPECT_EQ(pool.available(), 4u);
  EXPECT_EQ(pool.Take(), 4u);
}

TEST_F(BlockPoolTest, AtItsLimitABlockIsGivenBackToTheCaller) {
  Pool pool(host_, 7, 3);
  ASSERT_TRUE(pool.Init());
  ASSERT_TRUE(Grow(pool));
  ASSERT_TRUE(pool.at_limit());
  const uint64_t before = host_.bytes_outstanding();
  Thing* const block = pool.AllocateBlock();
  ASSERT_NE(block, nullptr);
  EXPECT_EQ(pool.AddBlock(block), block);
  EXPECT_EQ(pool.available(), 7u);
  pool.FreeBlock(block);
  EXPECT_EQ(host_.bytes_outstanding(), before);
}

TEST_F(BlockPoolTest, WithoutADirectoryItFailsAndHoldsNothing) {
  {
    Pool pool(host_, 100, 3);
    host_.FailAllocation(1);
    EXPECT_FALSE(pool.Init());
    EXPECT_EQ(pool.bytes(), 0u);
  }
  EXPECT_EQ(host_.bytes_outstanding(), 0u);
}

TEST_F(BlockPoolTest, WithoutABlockItStaysAsItWas) {
  Pool pool(host_, 100, 3);
  ASSERT_TRUE(pool.Init());
  ASSERT_TRUE(Grow(pool));
  const uint64_t bytes = pool.bytes();
  host_.FailAllocation(1);
  EXPECT_EQ(pool.AllocateBlock(), nullptr);
  pool.FreeBlock(nullptr);
  EXPECT_EQ(pool.available(), 7u);
  EXPECT_EQ(pool.bytes(), bytes);
  EXPECT_TRUE(Grow(pool));
}

TEST_F(BlockPoolTest, WhenItDiesAllMemoryGoesBack) {
  {
    Pool pool(host_, 1000, 2);
    ASSERT_TRUE(pool.Init());
    GrowTo(pool, 500);
    for (int i = 0; i < 400; ++i) pool.Take();
  }
  EXPECT_EQ(host_.bytes_outstanding(), 0u);
}

TEST_F(BlockPoolTest, AgreesWithASetUnderRandomUse) {
  Pool pool(host_, 200, 4);
  ASSERT_TRUE(pool.Init());
  std::mt19937 random(7);  // the same numbers in every run
  const auto below = [&random](size_t bound) {
    return static_cast<uint32_t>(random() % bound);
  };
  std::vector<uint32_t> taken;
  std::set<uint32_t> model;
  for (int step = 0; step < 20'000; ++step) {
    const uint32_t choice = below(100);
    if (choice < 2) {
      ASSERT_TRUE(Grow(pool));
    } else if (choice < 52 && pool.available() != 0) {
      taken.push_back(pool.Take());
      ASSERT_TRUE(model.insert(taken.back()).second);
      pool[taken.back()].rest[0] = taken.back();
    } else if (!taken.empty()) {
      std::swap(taken[below(taken.size())], taken.back());
      ASSERT_EQ(pool[taken.back()].rest[0], taken.back());
      pool.Put(taken.back());
      model.erase(taken.back());
      taken.pop_back();
    }
    ASSERT_EQ(pool.in_use(), model.size());
  }
}

TEST_F(BlockPoolDeathTest, TakingWithoutAReservationIsACheck) {
  Pool pool(host_, 100, 3);
  ASSERT_TRUE(pool.Init());
  EXPECT_DEATH(pool.Take(), "taken from without a reservation");
  ASSERT_TRUE(Grow(pool));
  for (int i = 0; i < 7; ++i) pool.Take();
  EXPECT_DEATH(pool.Take(), "taken from without a reservation");
}

TEST_F(BlockPoolDeathTest, TheNilObjectAndOnesBeyondTheBlocksAreDchecks) {
  if (!kDebugChecks) GTEST_SKIP() << "this check is of debug builds only";
  Pool pool(host_, 100, 3);
  ASSERT_TRUE(pool.Init());
  ASSERT_TRUE(Grow(pool));
  EXPECT_DEATH(pool[0].link = 1, "index != 0");
  EXPECT_DEATH(pool[8].link = 1, "blocks_");
}

// The limit in objects, and the size of a block.
class BlockPoolLimit
    : public BlockPoolTest,
      public ::testing::WithParamInterface<std::tuple<uint32_t, unsigned>> {};

TEST_P(BlockPoolLimit, IsReachedWithRoomForAllObjectsAndLessThanABlockMore) {
  const auto [objects, shift] = GetParam();
  Pool pool(host_, objects, shift);
  ASSERT_TRUE(pool.Init());
  while (!pool.at_limit()) ASSERT_TRUE(Grow(pool));
  EXPECT_GE(pool.available(), objects);
  EXPECT_LT(pool.available(), objects + (1u << shift));
  std::set<uint32_t> indices;
  while (pool.available() != 0) indices.insert(pool.Take());
  EXPECT_EQ(indices.size(), pool.in_use());
}

INSTANTIATE_TEST_SUITE_P(Sizes, BlockPoolLimit,
                         ::testing::Combine(::testing::Values(1, 2, 3, 7, 8, 9,
                                                              15, 16, 17, 255),
                                            ::testing::Values(0, 1, 2, 3, 4)));

}  // namespace
}  // namespace shadowmmu::testing
