#include "shadowmmu/address.h"

#include <gtest/gtest.h>

#include <sstream>

namespace shadowmmu {
namespace {

TEST(Level, EachMaps512TimesWhatTheOneBelowDoes) {
  EXPECT_EQ(PagesPerEntry(Level::k4K), 1u);
  EXPECT_EQ(PagesPerEntry(Level::k2M), 512u);
  EXPECT_EQ(PagesPerEntry(Level::k1G), 512u * 512);
  EXPECT_EQ(BytesPerEntry(Level::k2M), uint64_t{2} << 20);
  EXPECT_EQ(BytesPerEntry(Level::k256T), uint64_t{1} << 48);
  EXPECT_EQ(Above(Level::k4K), Level::k2M);
  EXPECT_EQ(Below(Level::k512G), Level::k1G);
}

TEST(Address, TheIndexAtEachLevelIsNineBitsOfTheAddress) {
  const Gva gva((uint64_t{1} << 39) * 511 + (uint64_t{1} << 30) * 3 +
                (uint64_t{1} << 21) * 510 + (uint64_t{1} << 12) * 7 + 0xabc);
  EXPECT_EQ(IndexAt(gva, Level::k512G), 511u);
  EXPECT_EQ(IndexAt(gva, Level::k1G), 3u);
  EXPECT_EQ(IndexAt(gva, Level::k2M), 510u);
  EXPECT_EQ(IndexAt(gva, Level::k4K), 7u);
  EXPECT_EQ(PageOffset(gva), 0xabcu);
}

TEST(Address, FramesAndAddressesConvertBothWays) {
  EXPECT_EQ(ToGfn(Gpa(0x12345fff)), Gfn(0x12345));
  EXPECT_EQ(ToGpa(Gfn(0x12345)), Gpa(0x12345000));
  EXPECT_EQ(ToPfn(Hpa(0x7fff)), Pfn(7));
  EXPECT_EQ(ToHpa(Pfn(7)), Hpa(0x7000));
}

TEST(Address, AlignmentRoundsDownToWhatAnEntryMaps) {
  EXPECT_EQ(AlignDown(Gfn(0x12345), Level::k4K), Gfn(0x12345));
  EXPECT_EQ(AlignDown(Gfn(0x12345), Level::k2M), Gfn(0x12200));
  EXPECT_EQ(AlignDown(Pfn(0x7ffff), Level::k1G), Pfn(0x40000));
  EXPECT_TRUE(IsAligned(Gfn(0x200), Level::k2M));
  EXPECT_FALSE(IsAligned(Gfn(0x201), Level::k2M));
}

TEST(Range, IsHalfOpenAndWorksUpToTheLastAddress) {
  const GfnRange gfns{Gfn(10), 5};
  EXPECT_FALSE(gfns.Contains(Gfn(9)));
  EXPECT_TRUE(gfns.Contains(Gfn(14)));
  EXPECT_FALSE(gfns.Contains(Gfn(15)));

  const HvaRange last{Hva(~uint64_t{0} - 4095), 4096};
  EXPECT_TRUE(last.Contains(Hva(~uint64_t{0})));
  EXPECT_TRUE(last.Overlaps({Hva(~uint64_t{0} - 8191), 4097}));
  EXPECT_FALSE(last.Overlaps({Hva(~uint64_t{0} - 8191), 4096}));
  EXPECT_FALSE(last.Overlaps({Hva(0), 4096}));
  EXPECT_FALSE(last.Overlaps({last.begin, 0}));
}

TEST(Printing, NamesTheTypeAndLeavesTheStreamAsItWas) {
  std::ostringstream out;
  out << Gva(0x1000) << ", " << Gfn(31) << ", " << Level::k2M << ", "
      << AddressSpace::kSmm << ", " << 31;
  EXPECT_EQ(out.str(), "gva 0x1000, gfn 0x1f, 2M, as 1, 31");
}

}  // namespace
}  // namespace shadowmmu
