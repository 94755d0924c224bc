// Guests of every paging mode, through the public face and a CPU that walks
// what was written: what is particular to a mode. What entries and control bits
// mean is compared with the oracle by scripts/exhaustive; the rights that are
// the same in every mode are in permission_test.cc.

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <string>

#include "tests/mmu/paging_modes_fixture.h"

namespace shadowmmu::testing {
namespace {

using Kind = FaultOutcome::Kind;

struct ModeCase {
  GuestMode mode;
  const char* name;
  uint64_t first_beyond;  // the lowest address that the tables do not translate
};
class EveryPagingMode : public PagingModes,
                        public ::testing::WithParamInterface<ModeCase> {};
INSTANTIATE_TEST_SUITE_P(
    Modes, EveryPagingMode,
    ::testing::Values(
        ModeCase{GuestMode::kTwoLevel, "TwoLevel", uint64_t{1} << 32},
        ModeCase{GuestMode::kPae, "Pae", uint64_t{1} << 32},
        ModeCase{GuestMode::kFourLevel, "FourLevel", uint64_t{1} << 47},
        ModeCase{GuestMode::kFiveLevel, "FiveLevel", uint64_t{1} << 56}),
    [](const ::testing::TestParamInfo<ModeCase>& of) {
      return std::string(of.param.name);
    });

TEST_P(EveryPagingMode, APageAtEachEdgeIsReachedWhereItIsMapped) {
  GuestTableBuilder& tables = Use(GetParam().mode);
  const uint64_t top = GetParam().first_beyond;
  uint64_t page = 0;
  for (const uint64_t gva :
       {uint64_t{0}, uint64_t{0x1f'f000}, uint64_t{0x20'0000},
        uint64_t{0x3f'f000}, uint64_t{0x40'0000}, uint64_t{0x3fff'f000},
        uint64_t{0x4000'0000}, uint64_t{0xc000'0000}, top / 2 - kPageSize,
        top - kPageSize}) {
    const Gpa gpa = kData + ++page * kPageSize;
    ASSERT_TRUE(tables.Map(Gva(gva), gpa, Level::k4K, kAll).ok());
    ExpectHit(Gva(gva + 0xfff), Write(Privilege::kUser), gpa + 0xfff);
  }
}

TEST_P(EveryPagingMode, AddressesBeyondTheTopAreCutOrAreNotCanonical) {
  Use(GetParam().mode);
  Map(Gva(0x5000), kData);
  const Gva beyond(GetParam().first_beyond | 0x5000);
  const FaultOutcome outcome = cpu_->mmu().HandleFault(beyond, Read());
  const bool cut = GetParam().first_beyond >> 32 == 1;
  if (cut) {
    EXPECT_TRUE(outcome.resume()) << outcome;
    EXPECT_EQ(cpu_->mmu().Translate(beyond, Read()).gpa, kData);
  } else {
    ASSERT_EQ(outcome.kind, Kind::kGuestFault);
    EXPECT_EQ(outcome.guest_fault.vector,
              GuestFault::Vector::kGeneralProtection);
  }
}

TEST_P(EveryPagingMode, AccessedAndDirtyBitsAreSetAtEveryLevelThatHasThem) {
  GuestTableBuilder& tables = Use(GetParam().mode);
  Map(Gva(0x5000), kData);
  ExpectHit(Gva(0x5000), Read(), kData);
  const Level top = GetParam().mode == GuestMode::kFiveLevel   ? Level::k256T
                    : GetParam().mode == GuestMode::kFourLevel ? Level::k512G
                                                               : Level::k2M;
  for (Level level = Level::k4K; level <= top; level = Above(level)) {
    const uint64_t entry = tables.Entry(Gva(0x5000), level).value();
    EXPECT_NE(entry & gpte::kAccessed, 0u) << level;
    EXPECT_EQ(entry & gpte::kDirty, 0u) << level;
  }
  ExpectHit(Gva(0x5000), Write(), kData);
  EXPECT_NE(tables.Entry(Gva(0x5000), Level::k4K).value() & gpte::kDirty, 0u);
  if (GetParam().mode == GuestMode::kPae) {
    const uint64_t pdpte = tables.Entry(Gva(0x5000), Level::k1G).value();
    EXPECT_EQ(pdpte & (gpte::kAccessed | gpte::kDirty), 0u)
        << "PDPTEs have no such bits";
  }
}

TEST_P(EveryPagingMode, AnEmulatedStoreIntoATableChangesWhatItsEntryMaps) {
  GuestTableBuilder& tables = Use(GetParam().mode);
  for (uint64_t i = 0; i < 4; ++i) {
    Map(Gva(i * kPageSize), kData + i * kPageSize);
    ExpectHit(Gva(i * kPageSize), Write(), kData + i * kPageSize);
  }
  tables.SetStore(&vm_.tracked());
  Map(Gva(0x1000), kData + 0x8000);
  EXPECT_EQ(vm_.RmapLength(ToGfn(kData + 0x1000)), 0u);
  EXPECT_EQ(vm_.RmapLength(ToGfn(kData)), 1u) << "its neighbours stay";
  EXPECT_EQ(vm_.RmapLength(ToGfn(kData + 0x2000)), 1u);
  ExpectHit(Gva(0x1000), Write(), kData + 0x8000);
}

TEST_P(EveryPagingMode, ALargePageIsReachedWhole) {
  Use(GetParam().mode);
  const bool short_entries = GetParam().mode == GuestMode::kTwoLevel;
  const uint64_t bytes = short_entries ? 0x40'0000 : 0x20'0000;
  Map(Gva(0x80'0000), kData, kAll, Level::k2M);
  for (const uint64_t offset :
       {uint64_t{0}, bytes / 2 - 1, bytes / 2, bytes - 1}) {
    ExpectHit(Gva(0x80'0000 + offset), Write(), kData + offset);
  }
  ExpectFault(Gva(0x80'0000 + bytes), Write(), pf_error::kWrite);
}

TEST_P(EveryPagingMode, InvlpgOfAnyAddressOfALargePageDropsAllOfIt) {
  GuestTableBuilder& tables = Use(GetParam().mode);
  const bool short_entries = GetParam().mode == GuestMode::kTwoLevel;
  const uint64_t last = (short_entries ? 0x40'0000 : 0x20'0000) - kPageSize;
  Map(Gva(0x80'0000), kData, kAll, Level::k2M);
  for (const uint64_t flushed : {uint64_t{0}, last}) {
    ExpectHit(Gva(0x80'0000), Write(), kData);
    ExpectHit(Gva(0x80'0000 + last), Write(), kData + last);
    // With no trap: only INVLPG tells.
    ASSERT_TRUE(tables.Unmap(Gva(0x80'0000), Level::k2M).ok());
    cpu_->mmu().Invlpg(Gva(0x80'0000 + flushed));
    ExpectFault(Gva(0x80'0000), Read(), 0);
    ExpectFault(Gva(0x80'0000 + last), Read(), 0);
    Map(Gva(0x80'0000), kData, kAll, Level::k2M);
  }
}

// ---- 32-bit paging ----

TEST_F(PagingModes, ADirectoryEntryOf4BytesMapsBothHalvesOf4MiB) {
  GuestTableBuilder& tables = Use(GuestMode::kTwoLevel);
  Map(Gva(0x0000), kData);
  Map(Gva(0x20'0000), kData + 0x1000);
  ExpectHit(Gva(0x0000), Write(), kData);
  ExpectHit(Gva(0x20'0000), Write(), kData + 0x1000);
  tables.SetStore(&vm_.tracked());
  ASSERT_TRUE(tables.Unmap(Gva(0x0000), Level::k2M).ok());
  ExpectFault(Gva(0x0000), Read(), 0);
  ExpectFault(Gva(0x20'0000), Read(), 0);
}

TEST_F(PagingModes, WithoutPseBit7OfADirectoryEntryMeansNothing) {
  Use(GuestMode::kTwoLevel);
  Map(Gva(0x5000), kData);
  ASSERT_TRUE(tables_
                  ->SetEntry(Gva(0x5000), Level::k2M,
                             tables_->Entry(Gva(0x5000), Level::k2M).value() |
                                 gpte::kPageSize)
                  .ok());
  PagingRegisters registers = cpu_->mmu().registers();
  registers.cr4 = 0;
  ASSERT_TRUE(cpu_->mmu().SetRegisters(registers).ok());
  ExpectHit(Gva(0x5000), Write(), kData);
  // With it the entry is a page of 4 MiB, at an address that is not aligned to
  // it.
  CpuFeatures features;
  features.pse36 = false;
  ASSERT_TRUE(cpu_->mmu().SetFeatures(features).ok());
  registers.cr4 = cr4::kPse;
  ASSERT_TRUE(cpu_->mmu().SetRegisters(registers).ok());
  ExpectFault(Gva(0x5000), Write(),
              pf_error::kPresent | pf_error::kReserved | pf_error::kWrite);
}

TEST_F(PagingModes, APageOf4MiBLiesAbove4GiBWithPse36Alone) {
  vm_.AddSlot({.id = SlotId{1}, .base = Gfn(0x30'0000), .pages = 1024});
  Use(GuestMode::kTwoLevel);
  const Gpa high = ToGpa(Gfn(0x30'0000));
  Map(Gva(0x80'0000), high, kAll, Level::k2M);
  ExpectHit(Gva(0x80'3000), Write(), high + 0x3000);
  CpuFeatures features;
  features.pse36 = false;
  ASSERT_TRUE(cpu_->mmu().SetFeatures(features).ok());
  ExpectFault(Gva(0x80'3000), Write(),
              pf_error::kPresent | pf_error::kReserved | pf_error::kWrite);
}

TEST_F(PagingModes, A32BitRootOutsideTheSlotsIsTold) {
  PagingRegisters registers =
      RegistersFor(GuestMode::kTwoLevel, ToGpa(Gfn(kPagesOfSlot + 1)));
  ASSERT_TRUE(cpu_->mmu().SetRegisters(registers).ok());
  const FaultOutcome outcome = cpu_->mmu().EnterGuest();
  EXPECT_EQ(outcome.kind, Kind::kMemoryFault) << outcome;
}

// ---- Long mode ----

TEST_F(PagingModes, APageOf1GiBTakesTheFeature) {
  for (const GuestMode mode : {GuestMode::kFourLevel, GuestMode::kFiveLevel}) {
    Use(mode);
    Map(Gva(0x4000'0000), Gpa(0), kAll, Level::k1G);
    ASSERT_TRUE(cpu_->mmu().SetFeatures(CpuFeatures()).ok());
    const Gva gva(0x4000'0000 + kData.value());
    ExpectHit(gva, Write(), kData);
    CpuFeatures features;
    features.one_gib_pages = false;
    ASSERT_TRUE(cpu_->mmu().SetFeatures(features).ok());
    ExpectFault(gva, Read(), pf_error::kPresent | pf_error::kReserved);
    ASSERT_TRUE(cpu_->mmu().SetFeatures(CpuFeatures()).ok());
    ExpectHit(gva, Write(), kData);
  }
}

// ---- From mode to mode ----

TEST_F(PagingModes, AGuestThatGoesThroughEveryModeFindsItsMemoryInEach) {
  const GfnRange kPlace[] = {
      {Gfn(16), 32}, {Gfn(48), 32}, {Gfn(80), 32}, {Gfn(112), 32}};
  const GuestMode kTour[] = {GuestMode::kTwoLevel, GuestMode::kPae,
                             GuestMode::kFourLevel, GuestMode::kFiveLevel};
  std::array<GuestTableBuilder*, 4> tables = {};
  for (unsigned i = 0; i < 4; ++i) {
    tables[i] = &vm_.UseTables(*cpu_, kPlace[i], kTour[i]);
    ASSERT_TRUE(tables[i]
                    ->Map(Gva(0x5000), kData + i * kPageSize, Level::k4K, kAll)
                    .ok());
  }
  for (int round = 0; round < 3; ++round) {
    for (unsigned i = 0; i < 4; ++i) {
      ASSERT_TRUE(cpu_->mmu().SetRegisters({}).ok());
      ExpectHit(Gva(kData.value() + 0x7000), Write(), kData + 0x7000);
      ASSERT_TRUE(cpu_->mmu()
                      .SetRegisters(RegistersFor(kTour[i], tables[i]->root()))
                      .ok());
      ExpectHit(Gva(0x5123), Write(Privilege::kUser),
                kData + i * kPageSize + 0x123);
      EXPECT_EQ(vm_.Violations(), "");
    }
  }
}

TEST_F(PagingModes, OneFrameMayBeATableOfEveryMode) {
  // Entry 2 of a table of 4-byte entries is the lower half of entry 1 of one of
  // 8-byte entries; what each makes of it is its own.
  const Gfn table(200);
  HostStore(ToGpa(table) + 8, kData.value() | 0x67);
  for (const GuestMode mode : {GuestMode::kTwoLevel, GuestMode::kPae,
                               GuestMode::kFourLevel, GuestMode::kFiveLevel}) {
    const GfnRange place{Gfn(16 + 32 * static_cast<uint64_t>(mode)), 32};
    GuestTableBuilder& tables = vm_.UseTables(*cpu_, place, mode);
    ASSERT_TRUE(tables.SetTable(Gva(0), Level::k2M, table).ok());
    const uint64_t index = mode == GuestMode::kTwoLevel ? 2 : 1;
    ExpectHit(Gva(index * kPageSize), Write(), kData);
  }
  EXPECT_EQ(vm_.RmapLength(ToGfn(kData)), 3u)
      << "four and five levels share a page";
  Store(ToGpa(table) + 8, uint32_t{0});
  EXPECT_EQ(vm_.RmapLength(ToGfn(kData)), 0u);
}

}  // namespace
}  // namespace shadowmmu::testing
