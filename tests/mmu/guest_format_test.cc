// GuestFormat: which entries of which shadow pages are made from which bytes of
// a guest's table. What the bits of an entry mean is compared with the oracle
// (scripts/exhaustive, tests/harness_test/walk_agreement_test.cc).

#include "src/mmu/guest_format.h"

#include <gtest/gtest.h>

namespace shadowmmu {
namespace {

// By its definition: is entry `index` of a page of `role` made from a guest
// entry that lies in [offset, offset + bytes)?
bool MadeFrom(PageRole role, unsigned index, size_t offset, size_t bytes) {
  size_t gpte = index;
  size_t size = 8;
  if (role.rules().layout() == EntryLayout::k32Bit) {
    size = 4;
    // The address that the entry begins at, within what the guest's table maps:
    // a directory entry maps 4 MiB, the shadow one 2 MiB.
    gpte = role.level() == Level::k2M
               ? ((role.quadrant() << 30) + (index << 21)) >> 22
               : ((role.quadrant() << 21) + (index << 12)) >> 12;
  }
  return gpte * size < offset + bytes && gpte * size + size > offset;
}

TEST(GuestFormat, EntriesMadeFromBytesAreThoseOfTheirGuestEntries) {
  for (const EntryLayout layout :
       {EntryLayout::kLong, EntryLayout::kPae, EntryLayout::k32Bit}) {
    const bool parts = layout == EntryLayout::k32Bit;
    for (const Level level : {Level::k4K, Level::k2M}) {
      const unsigned quadrants = !parts ? 1 : level == Level::k2M ? 4 : 2;
      for (unsigned quadrant = 0; quadrant < quadrants; ++quadrant) {
        const PageRole role(level, AddressSpace::kNormal, PageKind::kIndirect,
                            Rights::All(), GuestRules(layout, 0), quadrant);
        for (size_t offset = 0; offset < kPageSize; offset += 3) {
          for (const size_t bytes : {1u, 3u, 4u, 8u, 9u, 700u, 4096u}) {
            if (offset + bytes > kPageSize) continue;
            const EntryRange made = EntriesMadeFrom(role, offset, bytes);
            for (unsigned i = 0; i < kEntriesPerTable; ++i) {
              const bool in = i >= made.first && i < made.end;
              ASSERT_EQ(in, MadeFrom(role, i, offset, bytes))
                  << role << ", entry " << i << ", offset " << offset << ", "
                  << bytes << " bytes";
            }
          }
        }
      }
    }
  }
}

TEST(GuestFormat, AStoreMayEditAnEntryIfItIsOneAHalfOfOneOrItsFirstByte) {
  for (const EntryLayout layout :
       {EntryLayout::kLong, EntryLayout::kPae, EntryLayout::k32Bit}) {
    const size_t entry = layout == EntryLayout::k32Bit ? 4 : 8;
    for (size_t offset = 0; offset < 32; ++offset) {
      for (size_t bytes = 1; bytes < 32; ++bytes) {
        const bool whole = offset % entry == 0 && bytes == entry;
        const bool half = offset % 4 == 0 && bytes == 4;
        const bool first_byte = offset % entry == 0 && bytes == 1;
        EXPECT_EQ(MayEditEntry(layout, offset, bytes),
                  whole || half || first_byte)
            << bytes << " bytes at " << offset << " of entries of " << entry;
      }
    }
  }
}

TEST(GuestFormat, OfAPageOfFourBytesPse36GivesTheAddressBitsFrom32On) {
  const GuestFormat format(
      GuestRules(EntryLayout::k32Bit,
                 GuestRules::kLargePages | GuestRules::kPse36),
      2, 40);
  const uint64_t pde =
      0xc040'0000 | 0xa5 << 13 | pte::kPresent | pte::kPageSize;
  EXPECT_EQ(format.ReservedBitsSet(pde, Level::k2M), 0u);
  EXPECT_TRUE(format.IsLeaf(pde, Level::k2M));
  EXPECT_EQ(format.FrameOf(pde, Level::k2M, Gva(0x12'3456)),
            Gfn(0xa5'c040'0000 >> 12 | 0x123));
  EXPECT_EQ(format.ReservedBitsSet(pde | 1 << 21, Level::k2M), 1u << 21);
}

TEST(GuestFormat, ARoleKeepsItsRulesFromTheRootToTheLeaf) {
  const GuestRules rules(EntryLayout::k32Bit,
                         GuestRules::kPse36 | GuestRules::kFixUpsKeys);
  const PageRole root(Level::k2M, AddressSpace::kSmm, PageKind::kIndirect,
                      Rights::All(), rules, 3);
  EXPECT_EQ(root.quadrant(), 3u);
  const PageRole table = root.IndirectChild(Rights(Rights::kUser), 1);
  EXPECT_EQ(table.level(), Level::k4K);
  EXPECT_EQ(table.space(), AddressSpace::kSmm);
  EXPECT_EQ(table.rules(), rules);
  EXPECT_EQ(table.rights(), Rights(Rights::kUser));
  EXPECT_EQ(table.quadrant(), 1u);
  EXPECT_EQ(table.key(), 0u);
  const PageRole direct = root.DirectChild(Rights(Rights::kWrite), 15);
  EXPECT_TRUE(direct.direct());
  EXPECT_EQ(direct.rules(), rules);
  EXPECT_EQ(direct.quadrant(), 0u);
  EXPECT_EQ(direct.key(), 15u);
}

}  // namespace
}  // namespace shadowmmu
