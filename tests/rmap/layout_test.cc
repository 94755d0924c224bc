// The layouts that the rmaps' memory is made of.

#include <gtest/gtest.h>

#include <cstddef>
#include <sstream>

#include "src/rmap/pte_list_desc.h"
#include "src/rmap/rmap_chunk.h"
#include "src/rmap/rmap_head.h"
#include "src/rmap/spte_ref.h"

namespace shadowmmu {
namespace {

constexpr TableIndex kFirstTable{1};
constexpr TableIndex kLastTable{kMaxTables - 1};

TEST(SpteRefLayout, NamesEveryEntryOfEveryTable) {
  for (const TableIndex table : {kFirstTable, TableIndex{4711}, kLastTable}) {
    for (unsigned index = 0; index < kEntriesPerTable; ++index) {
      const SpteRef ref(table, index);
      EXPECT_EQ(ref.table(), table);
      EXPECT_EQ(ref.index(), index);
      EXPECT_FALSE(ref.nil());
      EXPECT_EQ(SpteRef::FromBits(ref.bits()), ref);
    }
  }
}

TEST(SpteRefLayout, LeavesTheHighestBitToTheHead) {
  EXPECT_EQ(SpteRef(kLastTable, 511).bits(), 0x7fff'ffffu);
}

TEST(SpteRefLayout, IsNilWhenAllBitsAreZero) {
  EXPECT_TRUE(SpteRef().nil());
  EXPECT_EQ(SpteRef().bits(), 0u);
  EXPECT_EQ(SpteRef().table(), TableIndex::kNil);
}

TEST(SpteRefLayout, PrintsItsTableAndItsIndex) {
  std::ostringstream text;
  text << SpteRef(TableIndex{12}, 345);
  EXPECT_EQ(text.str(), "spte 12[345]");
}

TEST(RmapHeadLayout, IsEmptyWhenAllBitsAreZero) {
  EXPECT_TRUE(RmapHead().empty());
  EXPECT_FALSE(RmapHead().chain());
}

TEST(RmapHeadLayout, TellsASingleFromAChain) {
  for (const SpteRef ref :
       {SpteRef(kFirstTable, 0), SpteRef(kLastTable, 511)}) {
    const RmapHead head = RmapHead::Single(ref);
    EXPECT_FALSE(head.empty());
    EXPECT_FALSE(head.chain());
    EXPECT_EQ(head.single(), ref);
  }
  for (const uint32_t descriptor : {1u, 77u, kMaxDescriptors - 1}) {
    const RmapHead head = RmapHead::Chain(descriptor);
    EXPECT_FALSE(head.empty());
    EXPECT_TRUE(head.chain());
    EXPECT_EQ(head.descriptor(), descriptor);
  }
}

TEST(OwnerTagLayout, Keeps28Bits) {
  EXPECT_EQ(OwnerTag(~uint64_t{0}).bits(), 0x0fff'ffffu);
  EXPECT_EQ(OwnerTag(0x1234'5678), OwnerTag(0x9000'0000'0234'5678));
  EXPECT_FALSE(OwnerTag(1) == OwnerTag(2));
}

TEST(PteListDescLayout, IsOneCacheLine) {
  EXPECT_EQ(sizeof(PteListDesc), 64u);
  EXPECT_EQ(alignof(PteListDesc), 64u);
  EXPECT_EQ(offsetof(PteListDesc, sptes), 0u);
  EXPECT_EQ(offsetof(PteListDesc, next), 56u);
  EXPECT_EQ(offsetof(PteListDesc, owner_and_count), 60u);
}

TEST(PteListDescLayout, CountingDisturbsNeitherOwnerNorNext) {
  const OwnerTag owner(~uint64_t{0});
  PteListDesc desc{};
  desc.Reset(owner, kMaxDescriptors - 1);
  EXPECT_EQ(desc.count(), 0u);
  for (unsigned i = 0; i < PteListDesc::kCapacity; ++i) {
    EXPECT_EQ(desc.Push(SpteRef(kLastTable, i)), i);
    EXPECT_EQ(desc.count(), i + 1);
    EXPECT_EQ(desc.owner(), owner);
  }
  for (unsigned i = PteListDesc::kCapacity; i-- > 0;) {
    EXPECT_EQ(desc.Pop(), SpteRef(kLastTable, i));
    EXPECT_EQ(desc.count(), i);
  }
  EXPECT_EQ(desc.owner(), owner);
  EXPECT_EQ(desc.next, kMaxDescriptors - 1);
}

TEST(PteListDescLayout, ResetForgetsWhatWasThere) {
  PteListDesc desc{};
  desc.Reset(OwnerTag(5), 9);
  desc.Push(SpteRef(kFirstTable, 0));
  desc.Reset(OwnerTag(6), 0);
  EXPECT_EQ(desc.count(), 0u);
  EXPECT_EQ(desc.owner(), OwnerTag(6));
  EXPECT_EQ(desc.next, 0u);
}

TEST(PlaceLayout, NamesEveryPositionOfEveryDescriptor) {
  for (const uint32_t descriptor : {1u, 4711u, kMaxDescriptors - 1}) {
    for (unsigned i = 0; i < PteListDesc::kCapacity; ++i) {
      const Place place(descriptor, i);
      EXPECT_EQ(place.descriptor(), descriptor);
      EXPECT_EQ(place.position(), i);
      EXPECT_FALSE(place == Place());
    }
  }
}

TEST(RmapChunkLayout, HeadsLieBehindItOnALineOfTheirOwn) {
  alignas(64) std::byte memory[RmapChunk::Bytes(3)] = {};
  auto* const chunk = new (memory) RmapChunk{};
  chunk->first_gfn = Gfn(1000);
  chunk->gfns = 3;
  EXPECT_EQ(reinterpret_cast<std::byte*>(chunk->heads()), memory + 64);
  EXPECT_EQ(&chunk->Head(Gfn(1002)), chunk->heads() + 2);
  EXPECT_EQ(RmapChunk::Bytes(512), 64u + 512 * 4);
}

}  // namespace
}  // namespace shadowmmu
