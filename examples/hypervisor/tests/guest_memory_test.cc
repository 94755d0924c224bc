// Guest memory as loaders see it, and finding room in it.

#include "loaders/guest_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <limits>
#include <vector>

#include "loaders/placement.h"
#include "tests/guest_block.h"

namespace hypervisor::testing {
namespace {

using shadowmmu::Gpa;

constexpr uint64_t kMiB = GuestMemoryView::kMiB;
constexpr uint64_t kMost = std::numeric_limits<uint64_t>::max();

TEST(GuestMemory, SizesThatNoGuestMayHaveAreRefused) {
  for (const uint64_t bytes :
       {uint64_t{0}, kMiB, 2 * kMiB + 4096, 3 * kMiB - 1}) {
    std::vector<std::byte> block(bytes);
    EXPECT_EQ(GuestMemoryView::Make(block).status().code(),
              absl::StatusCode::kInvalidArgument)
        << bytes;
  }
}

TEST(GuestMemory, RamIsWhereAPcHasIt) {
  const GuestBlock guest(4);
  EXPECT_TRUE(guest.view().Ram({Gpa(0), 0xa0000}).ok());
  EXPECT_TRUE(guest.view().Ram({Gpa(0x100000), 3 * kMiB}).ok());
  EXPECT_TRUE(guest.view().Ram({Gpa(0x3fffff), 1}).ok());
}

TEST(GuestMemory, WhatIsNotAllRamIsRefused) {
  const GuestBlock guest(4);
  for (const GpaRange& range : std::vector<GpaRange>{
           {Gpa(0), 0xa0001},
           {Gpa(0x9ffff), 2},
           {Gpa(0xa0000), 1},
           {Gpa(0xc0000), 0x40000},
           {Gpa(0xfffff), 2},
           {Gpa(0x3fffff), 2},
           {Gpa(0x400000), 1},
           {Gpa(0x100000), kMost},
           {Gpa(kMost), 1},
           {Gpa(kMost), 0x200000},
           {Gpa(0), kMost},
       }) {
    EXPECT_EQ(guest.view().Ram(range).status().code(),
              absl::StatusCode::kOutOfRange)
        << std::hex << range.begin.value() << " + " << range.bytes;
  }
}

TEST(GuestMemory, AWriteThatIsRefusedWritesNothing) {
  GuestBlock guest(2);
  guest.Fill(std::byte{0x11});
  const std::array<std::byte, 8> bytes = {};
  EXPECT_FALSE(guest.view().Write(Gpa(0x9fffc), bytes).ok());
  EXPECT_FALSE(guest.view().Clear({Gpa(0x9fffc), 8}).ok());
  EXPECT_EQ(guest.Read<uint32_t>(0x9fffc), 0x11111111u);
}

TEST(GuestMemory, WritesGoWhereTheySay) {
  GuestBlock guest(2);
  guest.Fill(std::byte{0x11});
  EXPECT_TRUE(guest.view().WriteObject(Gpa(0x100004), 0x22222222u).ok());
  EXPECT_TRUE(guest.view().Clear({Gpa(0x10000a), 2}).ok());
  EXPECT_EQ(guest.Read<uint64_t>(0x100000), 0x22222222'11111111u);
  EXPECT_EQ(guest.Read<uint64_t>(0x100008), 0x11111111'00001111u);
}

TEST(GuestMemory, TheMapIsOfAllRamAndTheRom) {
  const GuestBlock guest(4);
  EXPECT_THAT(
      guest.view().e820(),
      ::testing::ElementsAre(E820Entry{0, 0xa0000, E820Entry::kRam},
                             E820Entry{0xc0000, 0x40000, E820Entry::kReserved},
                             E820Entry{0x100000, 3 * kMiB, E820Entry::kRam}));
}

TEST(Placement, TheHighestPlaceIsBelowWhatIsTaken) {
  const GuestBlock guest(4);
  const GpaRange all = {Gpa(0), kMost};
  Placement placement(guest.view());
  placement.Take({Gpa(0x3ff800), 0x800});
  EXPECT_EQ(placement.TakeHighest(0x1001, all),
            (GpaRange{Gpa(0x3fe000), 0x1001}));
  EXPECT_EQ(placement.TakeHighest(0x1000, all),
            (GpaRange{Gpa(0x3fd000), 0x1000}));
}

TEST(Placement, TheLowestPlaceIsAboveWhatIsTaken) {
  const GuestBlock guest(4);
  const GpaRange high = {Gpa(0x100000), 3 * kMiB};
  Placement placement(guest.view());
  placement.Take({Gpa(0x100000), 0x1001});
  EXPECT_EQ(placement.TakeLowest(0x10, high), (GpaRange{Gpa(0x102000), 0x10}));
  EXPECT_EQ(placement.TakeLowest(0x10, high), (GpaRange{Gpa(0x103000), 0x10}));
}

TEST(Placement, PageZeroAndHolesAreNeverGiven) {
  const GuestBlock guest(2);
  const GpaRange all = {Gpa(0), kMost};
  Placement placement(guest.view());
  EXPECT_EQ(placement.TakeLowest(0x9f000, all),
            (GpaRange{Gpa(0x1000), 0x9f000}));
  EXPECT_EQ(placement.TakeHighest(kMiB, all), (GpaRange{Gpa(0x100000), kMiB}));
  EXPECT_FALSE(placement.TakeLowest(1, all).has_value());
  EXPECT_FALSE(placement.TakeHighest(1, all).has_value());
}

TEST(Placement, WhatIsTooLargeFindsNoPlace) {
  const GuestBlock guest(2);
  Placement placement(guest.view());
  EXPECT_FALSE(placement.TakeHighest(kMiB + 1, {Gpa(0), kMost}).has_value());
  EXPECT_FALSE(placement.TakeLowest(kMost, {Gpa(0), kMost}).has_value());
  EXPECT_FALSE(placement.TakeHighest(16, {Gpa(0x5000), 8}).has_value());
}

}  // namespace
}  // namespace hypervisor::testing
