// SpteFormat: what is written for the CPU that walks it, and what that CPU
// reserves; and that nothing reserved is ever written.

#include "src/mmu/spte.h"

#include <gtest/gtest.h>

#include <vector>

#include "src/mmu/spte_write.h"
#include "tests/mmu/breakable_vm.h"

namespace shadowmmu::testing {
namespace {

using AllRights = shadowmmu::Rights;

EntryFormat Format() {
  EntryFormat format;
  format.physical_bits = 46;
  return format;
}

PageRole RoleOf(Level level, EntryLayout layout) {
  return PageRole(level, AddressSpace::kNormal, PageKind::kIndirect,
                  AllRights::All(), GuestRules(layout, 0));
}

// The bits that are reserved, one by one, beside those of `base`.
std::vector<unsigned> ReservedOnes(const SpteFormat& format, uint64_t base,
                                   PageRole role) {
  std::vector<unsigned> bits;
  for (unsigned bit = 1; bit < 64; ++bit) {
    const uint64_t one = uint64_t{1} << bit;
    if ((base & one) != 0) continue;
    if ((format.ReservedBitsSet(Spte(base | one), role) & one) != 0) {
      bits.push_back(bit);
    }
  }
  return bits;
}
std::vector<unsigned> Range(unsigned first, unsigned last) {
  std::vector<unsigned> bits;
  for (unsigned bit = first; bit <= last; ++bit) bits.push_back(bit);
  return bits;
}
std::vector<unsigned> Join(std::vector<unsigned> a,
                           const std::vector<unsigned>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST(SpteFormat, InLongModeAddressBitsBeyondTheCpusAreReserved) {
  const SpteFormat format(Format());
  for (const Level level : {Level::k4K, Level::k2M, Level::k1G}) {
    EXPECT_EQ(
        ReservedOnes(format, pte::kPresent, RoleOf(level, EntryLayout::kLong)),
        Range(46, 51))
        << level;
  }
  for (const Level level : {Level::k512G, Level::k256T}) {
    EXPECT_EQ(
        ReservedOnes(format, pte::kPresent, RoleOf(level, EntryLayout::kLong)),
        Join({7}, Range(46, 51)))
        << level;
  }
}

TEST(SpteFormat, LargePagesReserveTheirLowAddressBitsButPat) {
  const SpteFormat format(Format());
  const uint64_t large = pte::kPresent | pte::kPageSize;
  EXPECT_EQ(ReservedOnes(format, large, RoleOf(Level::k2M, EntryLayout::kLong)),
            Join(Range(13, 20), Range(46, 51)));
  EXPECT_EQ(ReservedOnes(format, large, RoleOf(Level::k1G, EntryLayout::kLong)),
            Join(Range(13, 29), Range(46, 51)));
  EXPECT_EQ(ReservedOnes(format, large, RoleOf(Level::k2M, EntryLayout::kPae)),
            Join(Range(13, 20), Range(46, 62)));
}

TEST(SpteFormat, PaeTablesReserveAllButNxAbove) {
  const SpteFormat format(Format());
  for (const EntryLayout layout : {EntryLayout::kPae, EntryLayout::k32Bit}) {
    EXPECT_EQ(ReservedOnes(format, pte::kPresent, RoleOf(Level::k4K, layout)),
              Range(46, 62));
  }
}

TEST(SpteFormat, WhatTheCpuHasNotIsReserved) {
  EntryFormat without = Format();
  without.has_no_execute = false;
  without.has_1g_pages = false;
  const SpteFormat format(without);
  EXPECT_EQ(ReservedOnes(format, pte::kPresent,
                         RoleOf(Level::k1G, EntryLayout::kLong)),
            Join(Join({7}, Range(46, 51)), {63}));
}

TEST(SpteFormat, TheEncryptionBitIsNotReserved) {
  EntryFormat encrypted = Format();
  encrypted.encryption_bit = uint64_t{1} << 47;
  const SpteFormat format(encrypted);
  EXPECT_EQ(ReservedOnes(format, pte::kPresent,
                         RoleOf(Level::k4K, EntryLayout::kLong)),
            Join({46}, Range(48, 51)));
  const Spte root = format.PaeRoot(Hpa(0x1000));
  EXPECT_EQ(root.bits(), 0x1001 | encrypted.encryption_bit);
  EXPECT_EQ(format.ReservedBitsSetInRoot(root), 0u);
}

TEST(SpteFormat, AnEntryOfAPaeRootHasAnAddressAndLittleElse) {
  const SpteFormat format(Format());
  for (unsigned bit = 1; bit < 64; ++bit) {
    const uint64_t one = uint64_t{1} << bit;
    const bool reserved =
        (bit >= 1 && bit <= 2) || (bit >= 5 && bit <= 8) || bit >= 46;
    EXPECT_EQ(format.ReservedBitsSetInRoot(Spte(pte::kPresent | one)) != 0,
              reserved)
        << bit;
    EXPECT_EQ(format.ReservedBitsSetInRoot(Spte(one)), 0u) << bit;
  }
}

TEST(SpteFormat, ALeafHasRightsKeyAndType) {
  const SpteFormat format(Format());
  const Spte leaf =
      format.Leaf(Pfn(0x123), Level::k4K, AllRights(AllRights::kUser), 9,
                  MemoryType::kUncacheable, Dirty::kNo);
  EXPECT_EQ(leaf.bits(), 0xc800'0000'0012'303du);
  EXPECT_EQ(leaf.key(), 9u);
  EXPECT_EQ(leaf.rights(), AllRights(AllRights::kUser));
  EXPECT_EQ(format.PfnOf(leaf, Level::k4K), Pfn(0x123));
}

using SpteWriteDeathTest = ::testing::Test;

TEST(SpteWriteDeathTest, ALeafWithReservedBitsIsNeverWritten) {
  BreakableVm breakable;
  Vm& vm = breakable.inside();
  const auto write = [&vm](uint64_t bit) {
    const VmLock held(vm);
    FlushObligation flush;
    const SpteRef leaf = LeafOf(vm, BreakableVm::kSingle);
    const Spte bad(vm.arena.Load(leaf).bits() | bit);
    Writer writer;
    SetLeaf(vm, writer, VmHold::kExclusive, leaf,
            {.gfn = BreakableVm::kSingle, .spte = bad, .if_tracked = bad},
            flush);
    flush.Pay(vm);
  };
  EXPECT_DEATH(write(uint64_t{1} << 51), "ReservedBitsSet");
}

}  // namespace
}  // namespace shadowmmu::testing
