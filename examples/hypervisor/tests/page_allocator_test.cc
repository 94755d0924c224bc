// The pages that the shim hands out, on memory of the test's own.

#include "shim/page_allocator.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "gtest/gtest.h"
#include "shadowmmu/address.h"

namespace hypervisor {
namespace {

using shadowmmu::kPageSize;

class PageAllocatorTest : public testing::Test {
 protected:
  static constexpr size_t kPages = 2048;

  PageAllocatorTest()
      : memory_(kPages * kPageSize / sizeof(uint64_t)),
        allocator_(std::make_unique<PageAllocator>(
            reinterpret_cast<uintptr_t>(memory_.data()))) {}

  uint64_t* Page(size_t page) {
    return &memory_[page * kPageSize / sizeof(uint64_t)];
  }
  void Fill(PageRange range, uint64_t value) {
    std::fill(Page(range.begin), Page(range.begin) + Words(range), value);
  }
  bool Holds(PageRange range, uint64_t value) {
    const uint64_t* const begin = Page(range.begin);
    return std::all_of(begin, begin + Words(range),
                       [value](uint64_t word) { return word == value; });
  }

  static size_t Words(PageRange range) {
    return range.pages() * kPageSize / sizeof(uint64_t);
  }

  std::vector<uint64_t> memory_;
  std::unique_ptr<PageAllocator> allocator_;
};

TEST_F(PageAllocatorTest, TakesTheHighestPlaceThatIsLargeEnough) {
  allocator_->Add({10, 100}, Contents::kZero);
  allocator_->Add({200, 204}, Contents::kZero);

  EXPECT_EQ(allocator_->Allocate(1, 1), (PageRange{203, 204}));
  EXPECT_EQ(allocator_->Allocate(4, 1), (PageRange{96, 100}));
  EXPECT_EQ(allocator_->Allocate(3, 1), (PageRange{200, 203}));
  EXPECT_EQ(allocator_->FreePages(), 86u);
}

TEST_F(PageAllocatorTest, AlignsWhatIsAskedToBeAligned) {
  allocator_->Add({3, 2047}, Contents::kZero);

  EXPECT_EQ(allocator_->Allocate(513, 512), (PageRange{1024, 1537}));
  EXPECT_EQ(allocator_->Allocate(512, 512), (PageRange{512, 1024}));
  EXPECT_EQ(allocator_->Allocate(512, 512), std::nullopt)
      << "510 pages are free at either end, and neither holds an aligned 512";
}

TEST_F(PageAllocatorTest, GivesNothingWhenNoRunIsLongEnough) {
  allocator_->Add({0, 64}, Contents::kZero);
  allocator_->Add({65, 129}, Contents::kZero);

  EXPECT_EQ(allocator_->Allocate(65, 1), std::nullopt);
  EXPECT_EQ(allocator_->FreePages(), 128u);
}

TEST_F(PageAllocatorTest, ClaimsAllOrNothing) {
  allocator_->Add({10, 20}, Contents::kZero);

  EXPECT_TRUE(allocator_->Claim({12, 14}));
  EXPECT_FALSE(allocator_->Claim({13, 16}));
  EXPECT_FALSE(allocator_->Claim({18, 21}));
  EXPECT_EQ(allocator_->FreePages(), 8u);
  EXPECT_TRUE(allocator_->IsFree(15));
}

TEST_F(PageAllocatorTest, ReleaseLeavesPagesThatWereNeverAddedAlone) {
  allocator_->Add({10, 20}, Contents::kZero);
  allocator_->Add({30, 40}, Contents::kZero);
  ASSERT_TRUE(allocator_->Claim({15, 20}));
  ASSERT_TRUE(allocator_->Claim({30, 32}));

  allocator_->Release({12, 50});

  EXPECT_EQ(allocator_->FreePages(), 20u);
  EXPECT_FALSE(allocator_->IsFree(25));
}

TEST_F(PageAllocatorTest, PagesThatAreZeroAlreadyAreNotTouched) {
  allocator_->Add({10, 20}, Contents::kZero);
  // Nobody is to write there; it shows who does.
  Fill({10, 20}, 0x11);

  const std::optional<PageRange> range = allocator_->Allocate(10, 1);

  ASSERT_TRUE(range.has_value());
  EXPECT_TRUE(Holds(*range, 0x11));
}

TEST_F(PageAllocatorTest, PagesOfUnknownContentsAreZeroed) {
  allocator_->Add({10, 20}, Contents::kUnknown);
  Fill({9, 21}, 0x22);

  ASSERT_TRUE(allocator_->Claim({11, 19}));

  EXPECT_TRUE(Holds({11, 19}, 0));
  EXPECT_TRUE(Holds({9, 11}, 0x22));
  EXPECT_TRUE(Holds({19, 21}, 0x22));
}

TEST_F(PageAllocatorTest, UsedPagesAreZeroedForTheNextOwner) {
  allocator_->Add({0, 256}, Contents::kZero);
  ASSERT_TRUE(allocator_->Claim({60, 70}));
  ASSERT_TRUE(allocator_->Claim({200, 201}));
  Fill({60, 70}, 0x33);
  Fill({200, 201}, 0x33);
  allocator_->Release({60, 70});
  allocator_->Release({200, 201});

  ASSERT_TRUE(allocator_->Claim({0, 256}));

  EXPECT_TRUE(Holds({0, 256}, 0));
}

TEST_F(PageAllocatorTest, FreePagesAreNeverGivenTwice) {
  allocator_->Add({1, 1000}, Contents::kZero);
  std::vector<int> owners(kPages);
  std::vector<PageRange> taken;
  uint64_t random = 1;
  for (int step = 0; step < 2000; ++step) {
    random = random * 6364136223846793005 + 1442695040888963407;
    const uint64_t choice = random >> 33;
    if (choice % 5 < 2 && !taken.empty()) {
      const size_t which = choice / 5 % taken.size();
      const PageRange range = taken[which];
      for (size_t p = range.begin; p < range.end; ++p) --owners[p];
      allocator_->Release(range);
      taken.erase(taken.begin() + static_cast<std::ptrdiff_t>(which));
      continue;
    }
    const size_t alignment = size_t{1} << choice / 5 % 6;
    const std::optional<PageRange> range =
        allocator_->Allocate(1 + choice / 64 % 40, alignment);
    if (!range.has_value()) continue;
    EXPECT_EQ(range->begin % alignment, 0u);
    for (size_t p = range->begin; p < range->end; ++p) {
      ASSERT_EQ(++owners[p], 1) << "page " << p << " at step " << step;
    }
    taken.push_back(*range);
  }
  const auto owned =
      static_cast<size_t>(std::count(owners.begin(), owners.end(), 1));
  EXPECT_EQ(owned + allocator_->FreePages(), allocator_->AddedPages());
}

}  // namespace
}  // namespace hypervisor
