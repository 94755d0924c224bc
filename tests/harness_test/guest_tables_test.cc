// GuestTableBuilder and GuestMemory.

#include "tests/harness/guest_tables.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <vector>

#include "tests/harness/oracle.h"
#include "tests/harness/test_host.h"

namespace shadowmmu::testing {
namespace {

constexpr Hva kHva{0x5000'0000};
constexpr Gva kGva{0x0000'55b3'4243'4000};
constexpr uint64_t kLink = gpte::kPresent | gpte::kWritable | gpte::kUser;

// Counts stores, and can refuse them.
class CountingStore : public GuestStore {
 public:
  explicit CountingStore(GuestMemory* memory) : memory_(memory) {}
  bool Write(AddressSpace space, Gpa gpa,
             std::span<const std::byte> bytes) override {
    ++stores;
    return !refuse && memory_->Write(space, gpa, bytes);
  }
  int stores = 0;
  bool refuse = false;

 private:
  GuestMemory* const memory_;
};

class GuestTablesTest : public ::testing::Test {
 protected:
  static constexpr GfnRange kTables{Gfn(16), 8};

  void SetUp() override {
    host_.MapRange(kHva, 64, Frame{0});
    memory_.AddSlot(
        {.id = SlotId{0}, .base = Gfn(0), .pages = 64, .hva = kHva});
    // What was in the table pages before must not matter.
    std::array<std::byte, kPageSize> junk;
    junk.fill(std::byte{0xff});
    for (uint64_t i = 0; i < kTables.pages; ++i) {
      ASSERT_TRUE(
          memory_.Write(AddressSpace::kNormal, ToGpa(kTables.begin + i), junk));
    }
    tables_.emplace(&memory_, &store_, kTables);
  }
  uint64_t Raw(Gpa gpa) {
    return memory_.Read64(AddressSpace::kNormal, gpa).value_or(~uint64_t{0});
  }
  OracleResult Translate(Gva gva, const Access& access = Read()) {
    PagingRegisters registers;
    registers.cr0 = cr0::kPe | cr0::kPg | cr0::kWp;
    registers.cr3 = tables_->root().value();
    registers.cr4 = cr4::kPae;
    registers.efer = efer::kLme | efer::kLma | efer::kNxe;
    return Oracle(&memory_, 40)
        .Translate({.registers = registers}, AddressSpace::kNormal, gva,
                   access);
  }

  TestHost host_{TestHost::Options{.frames = 64}};
  GuestMemory memory_{&host_};
  CountingStore store_{&memory_};
  std::optional<GuestTableBuilder> tables_;
};

TEST_F(GuestTablesTest, MapWritesTheChainOfEntriesByHandComputedAddresses) {
  ASSERT_TRUE(tables_->Map(kGva, Gpa(0x5000), Level::k4K, gpte::kUser).ok());
  EXPECT_EQ(tables_->root(), Gpa(0x1'0000));
  EXPECT_EQ(Raw(Gpa(0x1'0000 + 0x0ab * 8)), 0x1'1000 | kLink);
  EXPECT_EQ(Raw(Gpa(0x1'1000 + 0x0cd * 8)), 0x1'2000 | kLink);
  EXPECT_EQ(Raw(Gpa(0x1'2000 + 0x12 * 8)), 0x1'3000 | kLink);
  EXPECT_EQ(Raw(Gpa(0x1'3000 + 0x34 * 8)),
            0x5000 | gpte::kPresent | gpte::kUser);
  EXPECT_EQ(*tables_->EntryAddress(kGva, Level::k2M), Gpa(0x1'2000 + 0x12 * 8));
  EXPECT_EQ(tables_->used_tables(), (GfnRange{Gfn(16), 4}));
  EXPECT_EQ(Raw(Gpa(0x1'3000 + 0x35 * 8)), 0u) << "new tables are cleared";
}

TEST_F(GuestTablesTest, NeighboursShareTables) {
  ASSERT_TRUE(tables_->Map(kGva, Gpa(0x5000), Level::k4K, 0).ok());
  ASSERT_TRUE(tables_->Map(kGva + kPageSize, Gpa(0x6000), Level::k4K, 0).ok());
  EXPECT_EQ(tables_->used_tables().pages, 4u);
  EXPECT_EQ(Translate(kGva).gpa, Gpa(0x5000));
  EXPECT_EQ(Translate(kGva + kPageSize).gpa, Gpa(0x6000));
}

TEST_F(GuestTablesTest, LargeLeavesCarryPageSizeAndAnAlignedAddress) {
  ASSERT_TRUE(tables_->Map(kGva, Gpa(0x61'2345), Level::k2M, 0).ok());
  EXPECT_EQ(*tables_->Entry(kGva, Level::k2M),
            0x60'0000 | gpte::kPresent | gpte::kPageSize);
  EXPECT_EQ(Translate(kGva).level, Level::k2M);
  ASSERT_TRUE(tables_->Map(Gva(0), Gpa(0x4000'0000), Level::k1G, 0).ok());
  EXPECT_EQ(Translate(Gva(0x123'4567)).gpa, Gpa(0x4123'4567));
}

TEST_F(GuestTablesTest, ALargerLeafOnTheWayIsNotReplaced) {
  ASSERT_TRUE(tables_->Map(kGva, Gpa(0), Level::k2M, 0).ok());
  const uint64_t before = *tables_->Entry(kGva, Level::k2M);
  EXPECT_TRUE(
      absl::IsAlreadyExists(tables_->Map(kGva, Gpa(0x5000), Level::k4K, 0)));
  EXPECT_EQ(*tables_->Entry(kGva, Level::k2M), before);
  EXPECT_TRUE(
      absl::IsNotFound(tables_->EntryAddress(kGva, Level::k4K).status()));
}

TEST_F(GuestTablesTest, ALeafReplacesATableInItsPlace) {
  ASSERT_TRUE(tables_->Map(kGva, Gpa(0x5000), Level::k4K, 0).ok());
  ASSERT_TRUE(tables_->Map(kGva, Gpa(0), Level::k2M, 0).ok());
  EXPECT_EQ(Translate(kGva).level, Level::k2M);
}

TEST_F(GuestTablesTest, UnmapClearsTheWholeEntryAtAnyLevel) {
  ASSERT_TRUE(tables_->Map(kGva, Gpa(0x5000), Level::k4K, 0).ok());
  ASSERT_TRUE(tables_->Unmap(kGva, Level::k4K).ok());
  EXPECT_EQ(*tables_->Entry(kGva, Level::k4K), 0u);
  ASSERT_TRUE(tables_->Unmap(kGva, Level::k512G).ok());
  EXPECT_TRUE(absl::IsNotFound(tables_->Unmap(kGva, Level::k4K)));
}

TEST_F(GuestTablesTest, SetBitsKeepsTheAddressAndThePageSize) {
  ASSERT_TRUE(tables_->Map(kGva, Gpa(0x5000), Level::k4K, gpte::kUser).ok());
  ASSERT_TRUE(tables_
                  ->SetBits(kGva, Level::k4K,
                            gpte::kPresent | gpte::kNoExecute | gpte::kDirty)
                  .ok());
  EXPECT_EQ(*tables_->Entry(kGva, Level::k4K),
            0x5000 | gpte::kPresent | gpte::kNoExecute | gpte::kDirty);
  ASSERT_TRUE(tables_->SetBits(kGva, Level::k1G, gpte::kPresent).ok());
  EXPECT_EQ(Translate(kGva, Read(Privilege::kUser)).fault.error_code,
            pf_error::kPresent | pf_error::kUser);
  ASSERT_TRUE(tables_->Map(Gva(0), Gpa(0), Level::k2M, 0).ok());
  ASSERT_TRUE(tables_->SetBits(Gva(0), Level::k2M, gpte::kPresent).ok());
  EXPECT_EQ(Translate(Gva(0)).level, Level::k2M);
}

TEST_F(GuestTablesTest, ATableMayServeInSeveralPlacesAndPointAnywhere) {
  ASSERT_TRUE(tables_->Map(kGva, Gpa(0x5000), Level::k4K, 0).ok());
  const Gva alias = kGva + BytesPerEntry(Level::k2M);
  ASSERT_TRUE(tables_->SetTable(alias, Level::k2M, Gfn(0x13)).ok());
  EXPECT_EQ(Translate(alias).gpa, Gpa(0x5000));
  ASSERT_TRUE(tables_->SetTable(alias, Level::k2M, Gfn(0x9999)).ok());
  EXPECT_EQ(Translate(alias).kind, OracleResult::Kind::kTableOutsideSlots);
  EXPECT_TRUE(absl::IsUnavailable(tables_->Map(alias, Gpa(0), Level::k4K, 0)));
}

TEST_F(GuestTablesTest, TablePagesRunOut) {
  for (uint64_t i = 0; i < 2; ++i) {
    ASSERT_TRUE(tables_->Map(Gva(i << 39), Gpa(0x5000), Level::k4K, 0).ok());
  }
  EXPECT_TRUE(absl::IsResourceExhausted(
      tables_->Map(Gva(uint64_t{2} << 39), Gpa(0x5000), Level::k4K, 0)));
  EXPECT_EQ(tables_->used_tables(), kTables);
}

TEST_F(GuestTablesTest, EveryWriteGoesThroughTheStore) {
  store_.stores = 0;
  ASSERT_TRUE(tables_->Map(kGva, Gpa(0x5000), Level::k4K, 0).ok());
  EXPECT_EQ(store_.stores, 3 + 3 + 1) << "three cleared, three linked, a leaf";
  store_.refuse = true;
  EXPECT_TRUE(absl::IsUnavailable(tables_->Unmap(kGva, Level::k4K)));
  UntrackedStore plain(&memory_);
  tables_->SetStore(&plain);
  EXPECT_TRUE(tables_->Unmap(kGva, Level::k4K).ok());
}

// ---- Other modes ----

class OtherModesTest : public GuestTablesTest {
 protected:
  void Make(GuestMode mode) {
    tables_.emplace(&memory_, &store_, kTables, AddressSpace::kNormal, mode);
  }
  uint32_t Raw32(Gpa gpa) {
    uint32_t value = ~0u;
    memory_.Read(AddressSpace::kNormal, gpa,
                 std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }
};

TEST_F(OtherModesTest, TwoLevelsHaveEntriesOfFourBytesAndTenIndexBits) {
  Make(GuestMode::kTwoLevel);
  constexpr Gva kLow{0xffc0'5000};
  ASSERT_TRUE(tables_->Map(kLow, Gpa(0x5000), Level::k4K, gpte::kUser).ok());
  EXPECT_EQ(tables_->root(), Gpa(0x1'0000));
  EXPECT_EQ(Raw32(Gpa(0x1'0ffc)), 0x1'1000 | kLink);
  EXPECT_EQ(Raw32(Gpa(0x1'1014)), 0x5000 | gpte::kPresent | gpte::kUser);
  EXPECT_EQ(Raw(Gpa(0x1'1010)), (0x5000 | gpte::kPresent | gpte::kUser) << 32);
  EXPECT_EQ(Raw32(Gpa(0x1'1018)), 0u) << "its neighbour is left alone";
  EXPECT_EQ(tables_->used_tables(), (GfnRange{Gfn(16), 2}));
  EXPECT_EQ(*tables_->EntryAddress(kLow, Level::k2M), Gpa(0x1'0ffc));
  EXPECT_EQ(*tables_->EntryAddress(kLow, Level::k4K), Gpa(0x1'1014));
  EXPECT_EQ(*tables_->Entry(kLow, Level::k2M), 0x1'1000 | kLink);
  ASSERT_TRUE(tables_->SetBits(kLow, Level::k4K, gpte::kPresent).ok());
  EXPECT_EQ(Raw32(Gpa(0x1'1014)), 0x5001u);
  ASSERT_TRUE(tables_->Unmap(kLow, Level::k4K).ok());
  EXPECT_EQ(Raw32(Gpa(0x1'1014)), 0u);
}

TEST_F(OtherModesTest, TwoLevelsHavePagesOfFourMebibytesBelowTwoToTheForty) {
  Make(GuestMode::kTwoLevel);
  ASSERT_TRUE(tables_->Map(Gva(0x40'1234), Gpa(0xc5'5000), Level::k2M, 0).ok());
  EXPECT_EQ(Raw32(Gpa(0x1'0004)), 0xc0'0081u);
  ASSERT_TRUE(
      tables_->Map(Gva(0x80'0000), Gpa(0xab'4040'0000), Level::k2M, 0).ok());
  EXPECT_EQ(Raw32(Gpa(0x1'0008)), 0x4040'0081u | 0xab << 13);
  EXPECT_TRUE(absl::IsAlreadyExists(
      tables_->Map(Gva(0x80'0000), Gpa(0), Level::k4K, 0)));
}

TEST_F(OtherModesTest, PaeHasFourPdptesWithNoRightsMadeAtOnce) {
  Make(GuestMode::kPae);
  for (uint64_t i = 0; i < 4; ++i) {
    EXPECT_EQ(Raw(Gpa(0x1'0000 + i * 8)), 0x1'1000 + (i << 12) + 1);
  }
  EXPECT_EQ(Raw(Gpa(0x1'0020)), 0u);
  EXPECT_EQ(tables_->used_tables(), (GfnRange{Gfn(16), 5}));
  constexpr Gva kLow{0xc020'5000};  // PDPTE 3, PDE 1, PTE 5
  ASSERT_TRUE(tables_->Map(kLow, Gpa(0x5000), Level::k4K, gpte::kUser).ok());
  EXPECT_EQ(Raw(Gpa(0x1'4008)), 0x1'5000 | kLink);
  EXPECT_EQ(Raw(Gpa(0x1'5028)), 0x5000 | gpte::kPresent | gpte::kUser);
  EXPECT_EQ(*tables_->EntryAddress(kLow, Level::k1G), Gpa(0x1'0018));
  EXPECT_EQ(*tables_->EntryAddress(kLow, Level::k2M), Gpa(0x1'4008));
  EXPECT_EQ(*tables_->EntryAddress(Gva(0xff'c020'5000), Level::k4K),
            Gpa(0x1'5028))
      << "bits above 31 count for nothing";
}

TEST_F(OtherModesTest, PaeHasPagesOfTwoMebibytesAndNoneOfOneGibibyte) {
  Make(GuestMode::kPae);
  ASSERT_TRUE(
      tables_->Map(Gva(0x20'0000), Gpa(0xf'ffff'f000), Level::k2M, 0).ok());
  EXPECT_EQ(Raw(Gpa(0x1'1008)), 0xf'ffe0'0081u);
  EXPECT_TRUE(
      absl::IsInvalidArgument(tables_->Map(Gva(0), Gpa(0), Level::k1G, 0)));
  ASSERT_TRUE(tables_->SetEntry(Gva(0x4000'0000), Level::k1G, 0x9007).ok());
  EXPECT_EQ(Raw(Gpa(0x1'0008)), 0x9007u) << "as it is";
  ASSERT_TRUE(tables_->SetTable(Gva(0x4000'0000), Level::k1G, Gfn(9)).ok());
  EXPECT_EQ(Raw(Gpa(0x1'0008)), 0x9001u);
}

TEST_F(OtherModesTest, FiveLevelsHaveOneMoreAbove) {
  Make(GuestMode::kFiveLevel);
  constexpr Gva kHigh{0xff45'55b3'4243'4000};
  ASSERT_TRUE(tables_->Map(kHigh, Gpa(0x5000), Level::k4K, 0).ok());
  EXPECT_EQ(Raw(Gpa(0x1'0000 + 0x145 * 8)), 0x1'1000 | kLink);
  EXPECT_EQ(Raw(Gpa(0x1'1000 + 0x0ab * 8)), 0x1'2000 | kLink);
  EXPECT_EQ(Raw(Gpa(0x1'2000 + 0x0cd * 8)), 0x1'3000 | kLink);
  EXPECT_EQ(Raw(Gpa(0x1'3000 + 0x12 * 8)), 0x1'4000 | kLink);
  EXPECT_EQ(Raw(Gpa(0x1'4000 + 0x34 * 8)), 0x5000 | gpte::kPresent);
  EXPECT_EQ(*tables_->EntryAddress(kHigh, Level::k256T),
            Gpa(0x1'0000 + 0x145 * 8));
  ASSERT_TRUE(tables_->Map(Gva(0), Gpa(0x4000'0000), Level::k1G, 0).ok());
  EXPECT_EQ(*tables_->Entry(Gva(0), Level::k1G),
            0x4000'0000 | gpte::kPresent | gpte::kPageSize);
}

TEST_F(OtherModesTest, ALevelThatTheModeLacksIsACheck) {
  Make(GuestMode::kTwoLevel);
  EXPECT_DEATH(static_cast<void>(tables_->Entry(Gva(0), Level::k1G)), "");
}

// ---- GuestMemory ----

TEST_F(GuestTablesTest, MemoryCrossesPagesAndSlotsAndStopsAtHoles) {
  memory_.AddSlot({.id = SlotId{1},
                   .base = Gfn(64),
                   .pages = 1,
                   .hva = kHva});  // the frames of slot 0, once more
  std::vector<std::byte> out(2 * kPageSize);
  std::vector<std::byte> in(2 * kPageSize, std::byte{0x5a});
  const Gpa last(63 * kPageSize + 0x800);
  EXPECT_FALSE(memory_.Write(AddressSpace::kNormal, last, in))
      << "gfn 65 is in no slot";
  in.resize(kPageSize);
  out.resize(kPageSize);
  ASSERT_TRUE(memory_.Write(AddressSpace::kNormal, last, in));
  ASSERT_TRUE(memory_.Read(AddressSpace::kNormal, last, out));
  EXPECT_EQ(in, out);
  EXPECT_EQ(*host_.PointerToFrame(ToPfn(Frame{0})), std::byte{0x5a});
  EXPECT_FALSE(memory_.Read(AddressSpace::kSmm, last, out));
}

TEST_F(GuestTablesTest, SlotsAreFoundMovedAndRemovedById) {
  EXPECT_EQ(memory_.HvaOf(AddressSpace::kNormal, Gpa(0x3010)), kHva + 0x3010);
  memory_.MutableSlot(AddressSpace::kNormal, SlotId{0})->base = Gfn(0x1000);
  EXPECT_EQ(memory_.HvaOf(AddressSpace::kNormal, Gpa(0x3010)), std::nullopt);
  EXPECT_EQ(memory_.HvaOf(AddressSpace::kNormal, Gpa(0x100'3010)),
            kHva + 0x3010);
  EXPECT_FALSE(memory_.RemoveSlot(AddressSpace::kSmm, SlotId{0}));
  EXPECT_TRUE(memory_.RemoveSlot(AddressSpace::kNormal, SlotId{0}));
  EXPECT_TRUE(memory_.slots().empty());
}

}  // namespace
}  // namespace shadowmmu::testing
