#include "src/memslot/dirty_bitmap.h"

#include <memory>

#include "gtest/gtest.h"
#include "shadowmmu/memslot.h"
#include "tests/harness/test_host.h"

namespace shadowmmu::testing {
namespace {

class DirtyBitmapTest : public ::testing::Test {
 protected:
  std::shared_ptr<DirtyBitmap> Make(uint64_t pages) {
    auto made = DirtyBitmap::Create(host_, pages);
    EXPECT_TRUE(made.ok()) << made.status();
    return *std::move(made);
  }

  TestHost host_{TestHost::Options{.frames = 1}};
};

TEST(DirtyBitmapWords, AWordHolds64Pages) {
  EXPECT_EQ(DirtyBitmapWords(1), 1u);
  EXPECT_EQ(DirtyBitmapWords(64), 1u);
  EXPECT_EQ(DirtyBitmapWords(65), 2u);
  EXPECT_EQ(DirtyBitmapWords(uint64_t{1} << 40), uint64_t{1} << 34);
}

TEST_F(DirtyBitmapTest, APageThatIsMarkedIsTakenOnce) {
  const auto bitmap = Make(130);
  ASSERT_EQ(bitmap->words(), 3u);
  for (const uint64_t page : {0, 63, 64, 129}) {
    EXPECT_FALSE(bitmap->Test(page)) << page;
    bitmap->Mark(page);
    bitmap->Mark(page);
    EXPECT_TRUE(bitmap->Test(page)) << page;
  }
  EXPECT_FALSE(bitmap->Test(1));
  EXPECT_FALSE(bitmap->Test(65));
  EXPECT_EQ(bitmap->Take(0), uint64_t{1} << 63 | 1);
  EXPECT_EQ(bitmap->Take(1), 1u);
  EXPECT_EQ(bitmap->Take(2), 2u);
  EXPECT_EQ(bitmap->Take(0), 0u);
  EXPECT_FALSE(bitmap->Test(63));
}

TEST_F(DirtyBitmapTest, ItIsArmedWhenItIsToldTo) {
  const auto bitmap = Make(1);
  EXPECT_FALSE(bitmap->armed());
  bitmap->Arm();
  EXPECT_TRUE(bitmap->armed());
}

TEST_F(DirtyBitmapTest, WithoutMemoryThereIsNone) {
  const uint64_t before = host_.bytes_outstanding();
  host_.FailAllocation(1);
  const auto none = DirtyBitmap::Create(host_, 64);
  EXPECT_EQ(none.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(host_.bytes_outstanding(), before);
}

TEST_F(DirtyBitmapTest, ItGivesItsMemoryBack) {
  const uint64_t before = host_.bytes_outstanding();
  Make(1000);
  EXPECT_EQ(host_.bytes_outstanding(), before);
}

}  // namespace
}  // namespace shadowmmu::testing
