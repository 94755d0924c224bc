// TestHost and its LibraryMemory.

#include "tests/harness/test_host.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <set>
#include <thread>
#include <vector>

namespace shadowmmu::testing {
namespace {

constexpr Hva kHva{0x7000'0000'0000};  // aligned to 1 GiB

std::span<std::byte> Bytes(uint64_t* value) {
  return std::as_writable_bytes(std::span(value, 1));
}

class TestHostTest : public ::testing::Test {
 protected:
  uint64_t Read64(Hva hva) {
    uint64_t value = 0;
    EXPECT_TRUE(host_.TryRead(hva, Bytes(&value)));
    return value;
  }
  bool Write64(Hva hva, uint64_t value) {
    return host_.TryWrite(hva, Bytes(&value));
  }

  TestHost host_{TestHost::Options{.frames = 2048}};
};

// ---- The space of host virtual addresses ----

TEST_F(TestHostTest, MemoryIsReachedThroughTheMappingAndOnlyThere) {
  host_.Map(kHva, Frame{3});
  EXPECT_TRUE(Write64(kHva + 16, 0x1122'3344'5566'7788));
  uint64_t seen = 0;
  std::memcpy(&seen, host_.PointerToFrame(ToPfn(Frame{3})) + 16, sizeof(seen));
  EXPECT_EQ(seen, 0x1122'3344'5566'7788u);
  EXPECT_FALSE(Write64(kHva + kPageSize, 1));
  uint64_t value = 0;
  EXPECT_FALSE(host_.TryRead(kHva - 8, Bytes(&value)));
  EXPECT_EQ(host_.refused_tries(), 2u);
}

TEST_F(TestHostTest, TwoHvasOfOneFrameSeeEachOthersWrites) {
  host_.Map(kHva, Frame{5});
  host_.Map(kHva + 0x10000, Frame{5});
  ASSERT_TRUE(Write64(kHva, 42));
  EXPECT_EQ(Read64(kHva + 0x10000), 42u);
}

TEST_F(TestHostTest, AfterRetargetAndUnmapTheOldFrameIsNotTouched) {
  host_.Map(kHva, Frame{1});
  host_.Retarget(kHva, Frame{2});
  ASSERT_TRUE(Write64(kHva, 7));
  EXPECT_EQ(host_.FrameAt(kHva + 100), Frame{2});
  EXPECT_EQ(*host_.PointerToFrame(ToPfn(Frame{1})), std::byte{0});
  host_.Unmap(kHva);
  EXPECT_FALSE(Write64(kHva, 8));
  EXPECT_EQ(host_.FrameAt(kHva), std::nullopt);
  EXPECT_EQ(*host_.PointerToFrame(ToPfn(Frame{2})), std::byte{7});
}

TEST_F(TestHostTest, AReadOnlyPageCanBeReadAndNotWritten) {
  host_.Map(kHva, Frame{1}, Protection::kReadOnly);
  EXPECT_EQ(Read64(kHva), 0u);
  EXPECT_FALSE(Write64(kHva, 1));
  uint64_t expected = 0;
  EXPECT_EQ(host_.TryCompareExchange(kHva, 8, &expected, 1),
            ExchangeResult::kUnavailable);
  const auto read = host_.Resolve(kHva, AccessType::kRead);
  ASSERT_TRUE(read.ok());
  EXPECT_FALSE(read->writable);
  EXPECT_TRUE(absl::IsPermissionDenied(
      host_.Resolve(kHva, AccessType::kWrite).status()));
  host_.Protect(kHva, Protection::kReadWrite);
  EXPECT_TRUE(host_.Resolve(kHva, AccessType::kWrite)->writable);
}

TEST_F(TestHostTest, ResolveGivesThePfnAndNotTheHva) {
  host_.Map(kHva, Frame{9});
  EXPECT_EQ(host_.Resolve(kHva + 0x123, AccessType::kWrite)->pfn,
            Pfn(0x10'0009));
  EXPECT_TRUE(absl::IsNotFound(
      host_.Resolve(kHva + kPageSize, AccessType::kRead).status()));
}

TEST_F(TestHostTest, TheResolveHookRunsWhenTheAnswerIsKnownAndNotYetGiven) {
  host_.Map(kHva, Frame{1});
  host_.SetResolveHook(
      [this](Hva hva, AccessType) { host_.Retarget(hva, Frame{2}); });
  EXPECT_EQ(host_.Resolve(kHva, AccessType::kRead)->pfn, ToPfn(Frame{1}));
  EXPECT_EQ(host_.FrameAt(kHva), Frame{2});
}

TEST_F(TestHostTest, ALargePageNeedsAnAlignedUniformRunAndTheCap) {
  host_.MapRange(kHva, 1024, Frame{512});
  const auto largest = [this](Hva hva) {
    return host_.Resolve(hva, AccessType::kRead)->largest;
  };
  EXPECT_EQ(largest(kHva + 0x5000), Level::k4K) << "the cap is 4K";
  host_.SetLargestPage(Level::k1G);
  EXPECT_EQ(largest(kHva + 0x5000), Level::k2M);
  EXPECT_EQ(largest(kHva + 0x20'0000), Level::k2M);
  // One page of another frame, or of another protection, spoils its 2 MiB.
  host_.Retarget(kHva + 0x1f'f000, Frame{0});
  EXPECT_EQ(largest(kHva + 0x5000), Level::k4K);
  host_.Protect(kHva + 0x20'0000, Protection::kReadOnly);
  EXPECT_EQ(largest(kHva + 0x30'0000), Level::k4K);
  // A run of frames that is not aligned as the hvas are.
  host_.MapRange(kHva + 0x4000'0000, 512, Frame{1});
  EXPECT_EQ(largest(kHva + 0x4000'0000), Level::k4K);
}

// ---- Atomicity ----

TEST_F(TestHostTest, CompareExchangeWorksAtEachSize) {
  host_.Map(kHva, Frame{0});
  ASSERT_TRUE(Write64(kHva, 0x8877'6655'4433'2211));
  uint64_t expected = 0x33;
  EXPECT_EQ(host_.TryCompareExchange(kHva + 2, 1, &expected, 0xaa),
            ExchangeResult::kExchanged);
  expected = 0x1234;
  EXPECT_EQ(host_.TryCompareExchange(kHva + 2, 2, &expected, 0),
            ExchangeResult::kDifferent);
  EXPECT_EQ(expected, 0x44aau);
  expected = 0x8877'6655;
  EXPECT_EQ(host_.TryCompareExchange(kHva + 4, 4, &expected, 0xdead'beef),
            ExchangeResult::kExchanged);
  expected = 0xdead'beef'44aa'2211;
  EXPECT_EQ(host_.TryCompareExchange(kHva, 8, &expected, 1),
            ExchangeResult::kExchanged);
  EXPECT_EQ(Read64(kHva), 1u);
}

TEST_F(TestHostTest, UnalignedBytesArriveAsTheyWere) {
  host_.Map(kHva, Frame{0});
  std::array<std::byte, 29> out{};
  std::array<std::byte, 29> in{};
  for (size_t i = 0; i < in.size(); ++i) in[i] = std::byte(i + 1);
  ASSERT_TRUE(host_.TryWrite(kHva + 3, in));
  ASSERT_TRUE(host_.TryRead(kHva + 3, out));
  EXPECT_EQ(in, out);
  EXPECT_TRUE(host_.ReadPhysical(ToHpa(ToPfn(Frame{0})) + 3, out));
  EXPECT_EQ(in, out);
}

TEST_F(TestHostTest, PhysicalAccessStaysWithinOneFrame) {
  uint64_t value = 1;
  EXPECT_TRUE(
      host_.WritePhysical(ToHpa(ToPfn(Frame{1})) + 4088, Bytes(&value)));
  EXPECT_FALSE(
      host_.WritePhysical(ToHpa(ToPfn(Frame{1})) + 4090, Bytes(&value)));
  EXPECT_FALSE(host_.WritePhysical(ToHpa(ToPfn(Frame{2048})), Bytes(&value)));
  EXPECT_EQ(host_.PointerToFrame(Pfn(3)), nullptr);
}

TEST_F(TestHostTest, AlignedWordsAreNeverTorn) {
  host_.Map(kHva, Frame{0});
  std::thread writer([this] {
    for (uint64_t i = 0; i < 20'000; ++i) {
      Write64(kHva, (i % 2) * ~uint64_t{0});
    }
  });
  for (int i = 0; i < 20'000; ++i) {
    uint64_t value = 1;
    host_.ReadPhysical(ToHpa(ToPfn(Frame{0})), Bytes(&value));
    ASSERT_TRUE(value == 0 || value == ~uint64_t{0}) << value;
  }
  writer.join();
}

// ---- The library's memory ----

TEST_F(TestHostTest, TableBlocksAreContiguousWithinAndOutOfOrderAmongThem) {
  const TableMemory memory = *host_.AllocateTables(512 * 5 + 1);
  ASSERT_EQ(memory.block_hpa.size(), 6u);
  EXPECT_FALSE(
      std::is_sorted(memory.block_hpa.begin(), memory.block_hpa.end()));
  std::set<Hpa> distinct(memory.block_hpa.begin(), memory.block_hpa.end());
  EXPECT_EQ(distinct.size(), 6u);
  for (size_t i = 0; i < 5; ++i) {
    const Hpa last = memory.block_hpa[i] + 511 * kPageSize + 8;
    EXPECT_EQ(host_.PointerToTable(last),
              memory.base + (i * 512 + 511) * kPageSize + 8);
  }
  EXPECT_NE(host_.PointerToTable(memory.block_hpa[5] + 4095), nullptr);
  EXPECT_EQ(host_.PointerToTable(memory.block_hpa[5] + 4096), nullptr)
      << "the last block has one table";
  EXPECT_EQ(host_.PointerToTable(ToHpa(kFirstFramePfn)), nullptr);
  EXPECT_EQ(host_.bytes_outstanding(), (512 * 5 + 1) * kPageSize);
  host_.FreeTables(memory);
  EXPECT_EQ(host_.PointerToTable(memory.block_hpa[0]), nullptr);
}

TEST_F(TestHostTest, LowPagesLieBelow4GiBAndAreDistinct) {
  const LowPage a = *host_.AllocateLowPage();
  const LowPage b = *host_.AllocateLowPage();
  EXPECT_LT(b.hpa.value() + kPageSize, uint64_t{1} << 32);
  EXPECT_GE(b.hpa - a.hpa, kPageSize);
  EXPECT_EQ(host_.PointerToTable(b.hpa + 32), b.base + 32);
  host_.FreeLowPage(a);
  EXPECT_EQ(host_.PointerToTable(a.hpa), nullptr);
  host_.FreeLowPage(b);
}

TEST_F(TestHostTest, AllocationsAreZeroedAlignedAndCounted) {
  for (size_t bytes : {size_t{1}, size_t{100}, size_t{3} << 20}) {
    auto* const memory = static_cast<std::byte*>(host_.AllocateZeroed(bytes));
    ASSERT_NE(memory, nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(memory) % 64, 0u);
    EXPECT_EQ(memory[bytes - 1], std::byte{0});
    EXPECT_EQ(host_.bytes_outstanding(), bytes);
    host_.Free(memory, bytes);
  }
  EXPECT_EQ(host_.allocations(), 3u);
  EXPECT_EQ(host_.bytes_outstanding(), 0u);
}

TEST_F(TestHostTest, TheNthAllocationOfAnyKindFailsAndTheNextDoesNot) {
  host_.FailAllocation(3);
  void* const first = host_.AllocateZeroed(64);
  const auto second = host_.AllocateLowPage();
  EXPECT_TRUE(absl::IsResourceExhausted(host_.AllocateTables(16).status()));
  void* const fourth = host_.AllocateZeroed(64);
  EXPECT_NE(fourth, nullptr);
  EXPECT_EQ(host_.failed_allocations(), 1u);
  host_.Free(first, 64);
  host_.Free(fourth, 64);
  host_.FreeLowPage(*second);
}

TEST_F(TestHostTest, AllAllocationsFailUntilTheyAreAllowed) {
  host_.FailAllAllocations();
  EXPECT_EQ(host_.AllocateZeroed(64), nullptr);
  EXPECT_FALSE(host_.AllocateLowPage().ok());
  host_.AllowAllocations();
  void* const memory = host_.AllocateZeroed(64);
  EXPECT_NE(memory, nullptr);
  host_.Free(memory, 64);
}

TEST(TestHostDeathTest, ALeakEndsTheProcess) {
  EXPECT_DEATH(
      {
        TestHost host(TestHost::Options{.frames = 1});
        host.AllocateZeroed(64);
      },
      "leaks");
}

TEST(TestHostDeathTest, FreeingAnotherSizeEndsTheProcess) {
  TestHost host(TestHost::Options{.frames = 1});
  void* const memory = host.AllocateZeroed(64);
  EXPECT_DEATH(host.Free(memory, 128), "another size");
  host.Free(memory, 64);
}

// ---- Marks ----

TEST_F(TestHostTest, MarksAreKeptByPageUntilCleared) {
  host_.MarkDirty(kHva + 0x10, ToPfn(Frame{4}), Level::k4K);
  EXPECT_TRUE(host_.IsMarkedDirty(kHva + 0x800));
  EXPECT_FALSE(host_.IsMarkedDirty(kHva + kPageSize));
  EXPECT_FALSE(host_.IsMarkedYoung(kHva));
  EXPECT_TRUE(host_.IsMarkedDirty(Frame{4}));
  EXPECT_FALSE(host_.IsMarkedDirty(Frame{5}));
  host_.MarkYoung(kHva, ToPfn(Frame{4}), Level::k4K);
  EXPECT_TRUE(host_.IsMarkedYoung(kHva));
  host_.ClearMarks();
  EXPECT_FALSE(host_.IsMarkedDirty(kHva));
  EXPECT_FALSE(host_.IsMarkedYoung(kHva));
}

}  // namespace
}  // namespace shadowmmu::testing
