// The record of host ranges that are going away.

#include "src/mmu/guest_memory.h"

#include <gtest/gtest.h>

#include "tests/harness/test_host.h"

namespace shadowmmu {
namespace {

constexpr Hva kHva{0x7000'0000'0000};

class GuestMemoryTest : public ::testing::Test {
 protected:
  testing::TestHost host_{testing::TestHost::Options{.frames = 1}};
  GuestMemory memory_{host_};
};

TEST_F(GuestMemoryTest, ABlockedRangeCoversThePagesThatItTouches) {
  memory_.Block({kHva + 0x10, 0x10});
  EXPECT_TRUE(memory_.Blocks({kHva + 0x800, 8}));
  EXPECT_FALSE(memory_.Blocks({kHva + kPageSize, 8}));
  EXPECT_FALSE(memory_.Blocks({kHva - 8, 8}));
  EXPECT_TRUE(memory_.Unblock({kHva + 0x10, 0x10}).ok());
  EXPECT_FALSE(memory_.Blocks({kHva, kPageSize}));
}

TEST_F(GuestMemoryTest, TheWholeAddressSpaceCanBeBlocked) {
  const HvaRange all{Hva(0), ~uint64_t{0}};
  memory_.Block(all);
  EXPECT_TRUE(memory_.Blocks({Hva(0), 8}));
  EXPECT_TRUE(memory_.Blocks({kHva, kPageSize}));
  EXPECT_TRUE(memory_.Blocks({Hva(~uint64_t{0} - 4095), 8}));
  EXPECT_TRUE(memory_.Unblock(all).ok());
  EXPECT_FALSE(memory_.Blocks({kHva, kPageSize}));
}

TEST_F(GuestMemoryTest, MoreRangesThanCanBeNotedBlockEverything) {
  constexpr uint64_t kMany = 100;
  const auto range = [](uint64_t i) {
    return HvaRange{kHva + i * 16 * kPageSize, kPageSize};
  };
  for (uint64_t i = 0; i < kMany; ++i) memory_.Block(range(i));
  EXPECT_TRUE(memory_.Blocks({Hva(0x1000), 8})) << "far from all of them";
  for (uint64_t i = 0; i < kMany; ++i) {
    EXPECT_TRUE(memory_.Blocks(range(kMany - 1)));
    EXPECT_TRUE(memory_.Unblock(range(i)).ok());
  }
  EXPECT_FALSE(memory_.Blocks({Hva(0x1000), 8}));
  EXPECT_FALSE(memory_.Blocks(range(kMany - 1)));
}

TEST_F(GuestMemoryTest, EndingWhatNeverBeganIsRefusedAndMovesNothing) {
  const uint64_t sequence = memory_.sequence();
  EXPECT_FALSE(memory_.Unblock({kHva, kPageSize}).ok());
  EXPECT_EQ(memory_.sequence(), sequence);
}

TEST_F(GuestMemoryTest, TheSequenceRisesWithEveryEnd) {
  const uint64_t sequence = memory_.sequence();
  memory_.Block({kHva, kPageSize});
  EXPECT_EQ(memory_.sequence(), sequence);
  ASSERT_TRUE(memory_.Unblock({kHva, kPageSize}).ok());
  EXPECT_EQ(memory_.sequence(), sequence + 1);
}

}  // namespace
}  // namespace shadowmmu
