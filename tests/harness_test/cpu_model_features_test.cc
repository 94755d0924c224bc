// CpuModel: what depends on a feature of the CPU beside the rights of a page:
// which CPUs refuse which registers, which bits are reserved; and Peek, Allows
// and Grants.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <string>

#include "tests/harness/cpu_model.h"
#include "tests/harness/test_host.h"
#include "tests/harness_test/cpu_model_accesses.h"
#include "tests/harness_test/hand_tables.h"

namespace shadowmmu::testing {
namespace {

using ::testing::HasSubstr;

constexpr Gva kGva{0x7f12'3456'7000};

class CpuFeatureTest : public ::testing::Test {
 protected:
  HardwareState StateWith(uint64_t cr4_bits) const {
    HardwareState state = tables_.State();
    state.cr4 |= cr4_bits;
    return state;
  }
  void Load(uint64_t cr4_bits) {
    ASSERT_EQ(cpu_.Load(StateWith(cr4_bits)), "");
  }

  TestHost host_{TestHost::Options{.frames = 8}};
  HandTables tables_{&host_, Level::k512G};
  CpuModel cpu_{&host_, FullFormat()};
};

TEST_F(CpuFeatureTest, AKeyAboveTheLeafDoesNotCount) {
  tables_.Map(kGva, Pfn(1), Level::k4K, kUserWritable | Key(5));
  for (Level level : {Level::k2M, Level::k1G, Level::k512G}) {
    tables_.Slot(kGva, level) |= Key(9);
  }
  Load(kPke);
  EXPECT_TRUE(cpu_.Grants(kGva, WithPkru(Read(), AccessDisable(9))));
  EXPECT_FALSE(cpu_.Grants(kGva, WithPkru(Read(), AccessDisable(5))));
  ASSERT_TRUE(cpu_.Access(kGva, Read()).hit());
  ASSERT_EQ(cpu_.TlbEntries().size(), 1u);
  EXPECT_EQ(cpu_.TlbEntries()[0].rights.key, 5u);
  EXPECT_THAT(::testing::PrintToString(cpu_.TlbEntries()[0]),
              HasSubstr("key 5"));
  for (const StructureEntry& entry : cpu_.StructureEntries()) {
    EXPECT_EQ(entry.rights.key, 0u) << entry.level;
  }
}

TEST_F(CpuFeatureTest, APageIsTheUsersOnlyIfEachLevelSaysSo) {
  for (Level level : {Level::k4K, Level::k2M, Level::k1G, Level::k512G}) {
    tables_.Map(kGva, Pfn(1), Level::k4K, kUserWritable);
    uint64_t& slot = tables_.Slot(kGva, level);
    Load(kSmep | kSmap | kPke);
    EXPECT_FALSE(cpu_.Grants(kGva, Fetch())) << level;
    EXPECT_FALSE(cpu_.Grants(kGva, Read())) << level;
    slot &= ~hw_entry::kUser;
    EXPECT_TRUE(cpu_.Grants(kGva, Fetch())) << level;
    EXPECT_TRUE(cpu_.Grants(kGva, WithPkru(Write(), ~0u))) << level;
    slot |= hw_entry::kUser;
  }
}

TEST_F(CpuFeatureTest, AWalkThatIsNotCompletedDoesNotNameTheKey) {
  const Access read = WithPkru(Read(kUserMode), ~0u);
  tables_.Map(kGva, Pfn(1), Level::k4K, kUserWritable | Key(5));
  Load(kPke);
  uint64_t& slot = tables_.Slot(kGva, Level::k4K);
  EXPECT_EQ(cpu_.Access(kGva, read).error_code, kP | kU | kPk);
  slot |= uint64_t{1} << 51;
  EXPECT_EQ(cpu_.Access(kGva, read).error_code, kP | kU | pf_error::kReserved);
  slot &= ~hw_entry::kPresent;
  EXPECT_EQ(cpu_.Access(kGva, read).error_code, kU);
}

TEST_F(CpuFeatureTest, FetchesAreReportedWithNxeOrSmepOnly) {
  HardwareState state = StateWith(0);
  state.efer &= ~efer::kNxe;
  ASSERT_EQ(cpu_.Load(state), "");
  EXPECT_EQ(cpu_.Access(kGva, Fetch(kUserMode)).error_code, kU);
  state.cr4 |= kSmep;
  ASSERT_EQ(cpu_.Load(state), "");
  EXPECT_EQ(cpu_.Access(kGva, Fetch(kUserMode)).error_code, kU | kI);
  state.efer |= efer::kNxe;
  ASSERT_EQ(cpu_.Load(state), "");
  EXPECT_EQ(cpu_.Access(kGva, Fetch(kUserMode)).error_code, kU | kI);
}

TEST_F(CpuFeatureTest, AFaultByKeyFromTheTlbDropsTheTranslation) {
  tables_.Map(kGva, Pfn(1), Level::k4K, kUserWritable | Key(5));
  Load(kPke);
  ASSERT_TRUE(cpu_.Access(kGva, Read()).hit());
  tables_.Slot(kGva, Level::k4K) = 0;  // the answer is the TLB's
  EXPECT_EQ(cpu_.Access(kGva, WithPkru(Read(), AccessDisable(5))).error_code,
            kP | kPk);
  EXPECT_TRUE(cpu_.TlbEntries().empty());
}

TEST_F(CpuFeatureTest, AChangeOfAnyRegisterDropsAll) {
  tables_.Map(kGva, Pfn(1), Level::k4K, kUserWritable);
  for (uint64_t bit : {kSmep, kSmap, kPke}) {
    ASSERT_EQ(cpu_.Enter(StateWith(0)), "");
    ASSERT_TRUE(cpu_.Access(kGva, Read(kUserMode)).hit());
    ASSERT_EQ(cpu_.Enter(StateWith(bit)), "");
    EXPECT_TRUE(cpu_.TlbEntries().empty());
    EXPECT_TRUE(cpu_.StructureEntries().empty());
  }
}

// ---- Registers ----

TEST_F(CpuFeatureTest, ABitOfCr4IsRefusedOnACpuWithoutTheFeature) {
  struct Case {
    uint64_t cr4;
    bool EntryFormat::*has;
    const char* name;
  };
  const std::vector<Case> cases = {
      {kSmep, &EntryFormat::has_smep, "SMEP"},
      {kSmap, &EntryFormat::has_smap, "SMAP"},
      {kPke, &EntryFormat::has_protection_keys, "PKE"},
      {cr4::kLa57, &EntryFormat::has_five_levels, "LA57"},
  };
  HandTables pae(&host_, Level::k1G);
  for (const Case& c : cases) {
    EntryFormat format = FullFormat();
    EXPECT_EQ(CpuModel(&host_, format).Load(StateWith(c.cr4)), "") << c.name;
    format.*c.has = false;
    CpuModel without(&host_, format);
    EXPECT_THAT(without.Load(StateWith(c.cr4)), HasSubstr(c.name));
    EXPECT_FALSE(without.state().has_value());
    EXPECT_EQ(without.Load(StateWith(0)), "");
    // With PAE paging some have no effect; the bit is reserved all the same.
    HardwareState state = pae.State();
    state.cr4 |= c.cr4;
    EXPECT_EQ(cpu_.Load(state), "") << c.name;
    EXPECT_THAT(without.Load(state), HasSubstr(c.name));
  }
}

TEST_F(CpuFeatureTest, WhatIsNotModelledIsRefusedOnEveryCpu) {
  for (uint64_t bit :
       {cr4::kPge, cr4::kPcide, cr4::kCet, cr4::kPks, cr4::kLamSup}) {
    EXPECT_THAT(cpu_.Load(StateWith(bit)), HasSubstr("not modelled"));
  }
}

TEST_F(CpuFeatureTest, FiveLevelsAndKeysHaveNoEffectWithPaePaging) {
  constexpr Gva kLow{0xc123'4000};
  HandTables pae(&host_, Level::k1G);
  pae.Map(kLow, Pfn(0x321), Level::k4K, kUserWritable);
  HardwareState state = pae.State();
  state.cr4 |= cr4::kLa57 | kPke;
  ASSERT_EQ(cpu_.Load(state), "");
  // Every PKRU lets everything through, and 32 bits are all that count.
  EXPECT_EQ(cpu_.Access(kLow + (uint64_t{1} << 60), WithPkru(Write(), ~0u)).hpa,
            ToHpa(Pfn(0x321)));
  // And bits 62:59 stay reserved.
  pae.Slot(kLow, Level::k4K) |= Key(1);
  cpu_.EvictAll();
  EXPECT_EQ(cpu_.Access(kLow, Read()).error_code, kP | pf_error::kReserved);
}

TEST_F(CpuFeatureTest, ARootOrATableAboveMaxphyaddrIsRefusedOrReserved) {
  EntryFormat format = FullFormat();
  format.physical_bits = 40;
  CpuModel small(&host_, format);
  HardwareState state = StateWith(0);
  state.root = Hpa(uint64_t{1} << 40);
  EXPECT_THAT(small.Load(state), HasSubstr("reserved"));
  state.root = Hpa(uint64_t{1} << 63);
  EXPECT_THAT(small.Load(state), HasSubstr("reserved"));
  for (Level level : {Level::k4K, Level::k2M, Level::k1G, Level::k512G}) {
    tables_.Map(kGva, Pfn(1), Level::k4K, kUserWritable);
    uint64_t& slot = tables_.Slot(kGva, level);
    const uint64_t kept = slot;
    slot |= uint64_t{1} << 40;
    ASSERT_EQ(small.Load(StateWith(0)), "");
    EXPECT_EQ(small.Access(kGva, Read()).error_code, kP | pf_error::kReserved)
        << level;
    EXPECT_FALSE(small.Peek(kGva).has_value());
    slot = kept;
  }
}

TEST_F(CpuFeatureTest, APml5eHasTheReservedBitsOfAPml4e) {
  HandTables five(&host_, Level::k256T);
  five.Map(kGva, Pfn(1), Level::k4K, kUserWritable);
  uint64_t& slot = five.Slot(kGva, Level::k256T);
  const uint64_t good = slot;
  for (uint64_t bad :
       {hw_entry::kPageSize, uint64_t{1} << 48, uint64_t{1} << 51}) {
    slot = good | bad;
    ASSERT_EQ(cpu_.Load(five.State()), "");
    EXPECT_EQ(cpu_.Access(kGva, Read()).error_code, kP | pf_error::kReserved);
  }
  slot = good | (uint64_t{0x7ff} << 52) | hw_entry::kDirty;  // ignored
  ASSERT_EQ(cpu_.Load(five.State()), "");
  EXPECT_TRUE(cpu_.Access(kGva, Read()).hit());
  slot = good | hw_entry::kNoExecute;
  EXPECT_FALSE(cpu_.Grants(kGva, Fetch()));
  HardwareState state = five.State();
  state.efer &= ~efer::kNxe;
  ASSERT_EQ(cpu_.Load(state), "");
  EXPECT_EQ(cpu_.Access(kGva, Read()).error_code, kP | pf_error::kReserved);
}

TEST_F(CpuFeatureTest, Bits52To62AreNotReservedInLongModeWithOrWithoutPke) {
  const uint64_t all = uint64_t{0x7ff} << 52;
  tables_.Map(kGva, Pfn(1), Level::k4K, kUserWritable | all);
  for (Level level : {Level::k2M, Level::k1G, Level::k512G}) {
    tables_.Slot(kGva, level) |= all;
  }
  for (uint64_t bit : {uint64_t{0}, kPke}) {
    Load(bit);
    EXPECT_TRUE(cpu_.Access(kGva, Write()).hit());
  }
}

// ---- Peek and Grants ----

TEST_F(CpuFeatureTest, PeekTellsTheLeafThatAWalkWouldFind) {
  tables_.Map(kGva, Pfn(0x12345), Level::k4K,
              kUserPage | Key(7) | hw_entry::kDirty);
  tables_.Map(Gva(0x20'0000), Pfn(0x40000), Level::k2M,
              kSystemWritable | hw_entry::kNoExecute);
  Load(kPke);
  EXPECT_EQ(cpu_.Peek(kGva + 0xabc),
            (TlbEntry{kGva, Level::k4K, Pfn(0x12345),
                      Rights{false, true, true, 7}, true}));
  EXPECT_EQ(cpu_.Peek(Gva(0x32'1000)),
            (TlbEntry{Gva(0x20'0000), Level::k2M, Pfn(0x40000),
                      Rights{true, false, false, 0}, false}));
  EXPECT_EQ(cpu_.Peek(kGva + kPageSize), std::nullopt) << "not present";
  EXPECT_EQ(cpu_.Peek(Gva(uint64_t{1} << 47)), std::nullopt) << "not canonical";
  EXPECT_FALSE(cpu_.Grants(Gva(uint64_t{1} << 47), Read()));
  tables_.Slot(kGva, Level::k2M) |= uint64_t{1} << 51;
  EXPECT_EQ(cpu_.Peek(kGva), std::nullopt) << "reserved";
}

TEST_F(CpuFeatureTest, PeekAgreesWithWhatTheTlbGets) {
  tables_.Map(kGva, Pfn(3), Level::k4K, kUserWritable | Key(2));
  tables_.Map(Gva(0x4000'0000), Pfn(0x80000), Level::k1G, kUserPage);
  Load(kPke);
  for (Gva gva : {kGva, Gva(0x4000'0000)}) {
    const std::optional<TlbEntry> before = cpu_.Peek(gva + 5);
    cpu_.EvictAll();
    ASSERT_TRUE(cpu_.Access(gva + 5, Read()).hit());
    ASSERT_EQ(cpu_.TlbEntries().size(), 1u);
    EXPECT_EQ(before, cpu_.TlbEntries()[0]);
  }
}

TEST_F(CpuFeatureTest, PeekCutsAddressesTo32BitsWithPaePaging) {
  constexpr Gva kLow{0xc123'4000};
  HandTables pae(&host_, Level::k1G);
  pae.Map(kLow, Pfn(0x321), Level::k4K, kUserWritable);
  ASSERT_EQ(cpu_.Load(pae.State()), "");
  const std::optional<TlbEntry> seen = cpu_.Peek(kLow + (uint64_t{9} << 32));
  ASSERT_TRUE(seen.has_value());
  EXPECT_EQ(seen->gva, kLow);
  EXPECT_EQ(seen->pfn, Pfn(0x321));
  EXPECT_EQ(cpu_.Peek(Gva(0x1000)), std::nullopt) << "no PDPTE";
}

TEST_F(CpuFeatureTest, ALookChangesNothingAndSeesTheTablesAsTheyAre) {
  tables_.Map(kGva, Pfn(1), Level::k4K, kUserWritable);
  Load(0);
  std::vector<uint64_t> before;
  for (Level level : {Level::k4K, Level::k2M, Level::k1G, Level::k512G}) {
    before.push_back(tables_.Slot(kGva, level));
  }
  EXPECT_TRUE(cpu_.Grants(kGva, Write()));
  EXPECT_TRUE(cpu_.TlbEntries().empty());
  EXPECT_TRUE(cpu_.StructureEntries().empty());
  EXPECT_EQ(cpu_.walks(), 0u);
  size_t i = 0;
  for (Level level : {Level::k4K, Level::k2M, Level::k1G, Level::k512G}) {
    EXPECT_EQ(tables_.Slot(kGva, level), before[i++]) << level;
  }
  // Neither the TLB nor upper entries that are cached answer it, and what it
  // finds changes neither.
  ASSERT_TRUE(cpu_.Access(kGva, Write()).hit());
  tables_.Slot(kGva, Level::k2M) = 0;
  EXPECT_FALSE(cpu_.Grants(kGva, Write()));
  EXPECT_TRUE(cpu_.Access(kGva, Write()).from_tlb);
}

TEST_F(CpuFeatureTest, APeekThatIsLedOutsideTheTablesIsACheck) {
  tables_.Slot(kGva, Level::k2M) = ToHpa(kFirstFramePfn).value() | kLink;
  Load(0);
  EXPECT_DEATH(cpu_.Peek(kGva), "not memory for tables");
}

}  // namespace
}  // namespace shadowmmu::testing
