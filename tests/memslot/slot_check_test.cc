#include "src/memslot/slot_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>

#include "tests/memslot/make_slot.h"

namespace shadowmmu::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr unsigned kBits = 48;
constexpr uint64_t kFrames = uint64_t{1} << (kBits - kPageShift);
constexpr SlotSpec kGood{
    .id = SlotId{5}, .base = Gfn(16), .pages = 16, .hva = Hva(0x1'0000)};

// `field` is how the complaint goes on after it has named the slot.
void ExpectRefused(const SlotSpec& spec, const std::string& field,
                   const std::string& why, unsigned bits = kBits) {
  const absl::Status status = CheckSlotSpec(spec, bits);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr(": " + field + ": "));
  EXPECT_THAT(std::string(status.message()), HasSubstr(why));
}

SlotSpec With(void (*change)(SlotSpec&)) {
  SlotSpec spec = kGood;
  change(spec);
  return spec;
}

TEST(SlotCheckTest, AGoodSlotPasses) {
  EXPECT_TRUE(CheckSlotSpec(kGood, kBits).ok());
}

TEST(SlotCheckTest, TheComplaintNamesTheSlot) {
  const SlotSpec spec = With([](SlotSpec& s) {
    s.pages = 0;
    s.space = AddressSpace::kSmm;
  });
  EXPECT_THAT(std::string(CheckSlotSpec(spec, kBits).message()),
              StartsWith("slot 5 of as 1: pages: "));
}

TEST(SlotCheckTest, AnAddressSpaceThatDoesNotExistIsRefused) {
  ExpectRefused(With([](SlotSpec& s) { s.space = AddressSpace{2}; }), "space",
                "only 0 to 1 exist");
  ExpectRefused(With([](SlotSpec& s) { s.space = AddressSpace{255}; }), "space",
                "only 0 to 1 exist");
}

TEST(SlotCheckTest, IdsEndBelowTheLimit) {
  EXPECT_TRUE(
      CheckSlotSpec(With([](SlotSpec& s) { s.id = SlotId{kMaxSlotId - 1}; }),
                    kBits)
          .ok());
  ExpectRefused(With([](SlotSpec& s) { s.id = SlotId{kMaxSlotId}; }), "id",
                "below 32768");
  ExpectRefused(With([](SlotSpec& s) { s.id = SlotId{~0u}; }), "id",
                "below 32768");
}

TEST(SlotCheckTest, AnEmptySlotIsRefused) {
  ExpectRefused(With([](SlotSpec& s) { s.pages = 0; }), "pages", "empty");
}

TEST(SlotCheckTest, TheLastFrameBelowMaxphyaddrIsTheLastThatPasses) {
  for (const unsigned bits : {36u, 40u, 48u, 52u}) {
    const uint64_t frames = uint64_t{1} << (bits - kPageShift);
    SlotSpec spec = kGood;
    spec.base = Gfn(frames - 1);
    spec.pages = 1;
    EXPECT_TRUE(CheckSlotSpec(spec, bits).ok()) << bits;
    spec.pages = 2;
    ExpectRefused(spec, "base, pages", "reach beyond", bits);
    spec.base = Gfn(frames);
    spec.pages = 1;
    ExpectRefused(spec, "base, pages", "reach beyond", bits);
    spec.base = Gfn(0);
    spec.pages = frames;
    EXPECT_TRUE(CheckSlotSpec(spec, bits).ok()) << bits;
    spec.pages = frames + 1;
    ExpectRefused(spec, "base, pages", "reach beyond", bits);
  }
}

TEST(SlotCheckTest, ARangeOfGfnsThatWrapsIsRefused) {
  ExpectRefused(With([](SlotSpec& s) { s.base = Gfn(~uint64_t{0}); }),
                "base, pages", "0xffffffffffffffff + 0x10");
  ExpectRefused(With([](SlotSpec& s) { s.pages = ~uint64_t{0}; }),
                "base, pages", "48 physical address bits");
  ExpectRefused(With([](SlotSpec& s) { s.pages = uint64_t{0} - 16; }),
                "base, pages", "reach beyond");
}

TEST(SlotCheckTest, AnHvaInsideAPageIsRefused) {
  ExpectRefused(With([](SlotSpec& s) { s.hva = Hva(0x1'0001); }), "hva",
                "0x10001 is not a multiple of 4 KiB");
  ExpectRefused(With([](SlotSpec& s) { s.hva = Hva(0x1'0fff); }), "hva",
                "not a multiple");
}

TEST(SlotCheckTest, HostMemoryMayReachTheTopAndNotWrap) {
  SlotSpec spec = kGood;
  spec.hva = Hva(uint64_t{0} - 16 * kPageSize);
  EXPECT_TRUE(CheckSlotSpec(spec, kBits).ok()) << "the last byte is the top";
  spec.pages = 17;
  ExpectRefused(spec, "hva, pages", "0x11 pages wraps around");
  spec.hva = Hva(~kPageOffsetMask);
  ExpectRefused(spec, "hva, pages", "wraps around");
  spec.pages = kFrames - 16;
  ExpectRefused(spec, "hva, pages", "wraps around");
}

TEST(SlotCheckTest, FlagsThatAreNotKnownAreRefusedByTheirBits) {
  EXPECT_TRUE(CheckSlotFlags(SlotFlags::kReadOnly | SlotFlags::kLogDirty).ok());
  const absl::Status status = CheckSlotFlags(
      SlotFlags::kReadOnly | static_cast<SlotFlags>(0x8000'0004));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(std::string(status.message()), "flags: unknown bits 0x80000004");
  EXPECT_FALSE(
      CheckSlotSpec(
          With([](SlotSpec& s) { s.flags = static_cast<SlotFlags>(4); }), kBits)
          .ok());
}

class SlotFitsTest : public ::testing::Test {
 protected:
  void ExpectTaken(const SlotSpec& spec, const SlotId* except,
                   const std::string& message) {
    const absl::Status status = CheckSlotFits(spec, *table_, except);
    EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists);
    EXPECT_EQ(std::string(status.message()), message);
  }

  const std::unique_ptr<const SlotTable> table_ =
      SlotTable()
          .With(MakeSlot(Spec(1, 100, 10, 0x10000)))
          ->With(MakeSlot(Spec(2, 110, 10, 0x20000)));
};

TEST_F(SlotFitsTest, AFreeIdAndFreeFramesFit) {
  EXPECT_TRUE(CheckSlotFits(Spec(3, 120, 10, 0), *table_, nullptr).ok());
  EXPECT_TRUE(
      CheckSlotFits(Spec(1, 100, 10, 0, AddressSpace::kSmm), *table_, nullptr)
          .ok())
      << "the other address space is empty";
  EXPECT_TRUE(CheckSlotFits(Spec(3, 200, 10, 0x10000), *table_, nullptr).ok())
      << "host memory may be used twice";
}

TEST_F(SlotFitsTest, ATakenIdIsRefused) {
  ExpectTaken(Spec(1, 500, 1, 0), nullptr, "id: as 0 has a slot 1");
}

TEST_F(SlotFitsTest, AnOverlapIsRefusedAndNamesBothSlots) {
  ExpectTaken(Spec(3, 119, 1, 0x7000), nullptr,
              "base, pages: slot 3 of as 0: 1 pages from gfn 0x77 at hva "
              "0x7000 overlaps slot 2 of as 0: 10 pages from gfn 0x6e at hva "
              "0x20000");
}

TEST_F(SlotFitsTest, ASlotThatTakesItsOwnPlaceFits) {
  const SlotId self{1};
  EXPECT_TRUE(CheckSlotFits(Spec(1, 95, 10, 0), *table_, &self).ok());
  EXPECT_FALSE(CheckSlotFits(Spec(1, 101, 10, 0), *table_, &self).ok())
      << "the other one is in the way";
}

}  // namespace
}  // namespace shadowmmu::testing
