// CpuModel outside long mode: PAE tables under a root of 32 bytes.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/harness/cpu_model.h"
#include "tests/harness/test_host.h"
#include "tests/harness_test/hand_tables.h"

namespace shadowmmu::testing {
namespace {

using ::testing::HasSubstr;

constexpr Gva kGva{0xc123'4000};
constexpr uint64_t kUserWritable = hw_entry::kUser | hw_entry::kWritable;

class PaeCpuTest : public ::testing::Test {
 protected:
  TestHost host_{TestHost::Options{.frames = 8}};
  HandTables tables_{&host_, Level::k1G};
  CpuModel cpu_{&host_, EntryFormat{}};
};

TEST_F(PaeCpuTest, ThreeLevelsTranslate32Bits) {
  tables_.Map(kGva, Pfn(0x321), Level::k4K, kUserWritable);
  tables_.Map(Gva(0x4020'0000), Pfn(0x600), Level::k2M, kUserWritable);
  ASSERT_EQ(cpu_.Load(tables_.State()), "");
  EXPECT_EQ(cpu_.Access(kGva + 5, Read(Privilege::kUser)).hpa, Hpa(0x321'005));
  EXPECT_EQ(cpu_.Access(Gva(0x4020'1234), Read()).hpa, Hpa(0x60'1234));
}

TEST_F(PaeCpuTest, AddressBitsFrom32OnAreCutOff) {
  tables_.Map(kGva, Pfn(0x321), Level::k4K, kUserWritable);
  ASSERT_EQ(cpu_.Load(tables_.State()), "");
  const CpuResult result = cpu_.Access(kGva + (uint64_t{0x99} << 40), Read());
  EXPECT_EQ(result.hpa, ToHpa(Pfn(0x321)));
  EXPECT_EQ(result.gva, kGva);
}

TEST_F(PaeCpuTest, ARootFrom4GiBOnIsRefused) {
  HardwareState state = tables_.State();
  state.root = kFirstTableHpa;
  EXPECT_THAT(cpu_.Load(state), HasSubstr("above 4 GiB"));
}

TEST_F(PaeCpuTest, ARootThatIsNotAlignedTo32BytesIsRefused) {
  HardwareState state = tables_.State();
  state.root += 16;
  EXPECT_THAT(cpu_.Load(state), HasSubstr("32 bytes"));
}

TEST_F(PaeCpuTest, ARootOutsideMemoryForTablesIsRefused) {
  HardwareState state = tables_.State();
  state.root = Hpa(0x2000);
  EXPECT_THAT(cpu_.Load(state), HasSubstr("not in memory for tables"));
}

TEST_F(PaeCpuTest, APresentPdpteWithAnyReservedBitIsRefused) {
  uint64_t& pdpte = tables_.Slot(kGva, Level::k1G);
  const uint64_t good = tables_.NewTable().value() | hw_entry::kPresent;
  for (unsigned bit : {1u, 2u, 5u, 6u, 7u, 8u, 48u, 51u, 52u, 63u}) {
    pdpte = good | (uint64_t{1} << bit);
    EXPECT_THAT(cpu_.Load(tables_.State()), HasSubstr("PDPTE 3")) << bit;
    pdpte &= ~hw_entry::kPresent;
    EXPECT_EQ(cpu_.Load(tables_.State()), "") << bit;
  }
  for (unsigned bit : {3u, 4u, 9u, 10u, 11u}) {
    pdpte = good | (uint64_t{1} << bit);
    EXPECT_EQ(cpu_.Load(tables_.State()), "") << bit;
  }
}

TEST_F(PaeCpuTest, PdptesAreRegistersThatAnEntryFillsAgain) {
  tables_.Map(kGva, Pfn(1), Level::k4K, kUserWritable);
  uint64_t& pdpte = tables_.Slot(kGva, Level::k1G);
  const uint64_t kept = pdpte;
  pdpte = 0;
  ASSERT_EQ(cpu_.Enter(tables_.State()), "");
  pdpte = kept;
  EXPECT_EQ(cpu_.Access(kGva, Read()).kind, CpuResult::Kind::kPageFault);
  ASSERT_EQ(cpu_.Enter(tables_.State()), "");
  EXPECT_TRUE(cpu_.Access(kGva, Read()).hit());
}

TEST_F(PaeCpuTest, AnEntryThatFillsPdptesAgainDropsNothing) {
  tables_.Map(kGva, Pfn(1), Level::k4K, kUserWritable);
  ASSERT_EQ(cpu_.Enter(tables_.State()), "");
  ASSERT_TRUE(cpu_.Access(kGva, Read()).hit());
  tables_.Slot(kGva, Level::k1G) = 0;
  ASSERT_EQ(cpu_.Enter(tables_.State()), "");
  EXPECT_TRUE(cpu_.Access(kGva, Read()).from_tlb) << "until a flush";
}

TEST_F(PaeCpuTest, NoAccessedBitIsSetInAPdpte) {
  tables_.Map(kGva, Pfn(1), Level::k4K, kUserWritable);
  ASSERT_EQ(cpu_.Load(tables_.State()), "");
  ASSERT_TRUE(cpu_.Access(kGva, Write()).hit());
  EXPECT_FALSE(tables_.Slot(kGva, Level::k1G) & hw_entry::kAccessed);
  EXPECT_TRUE(tables_.Slot(kGva, Level::k2M) & hw_entry::kAccessed);
  EXPECT_TRUE(tables_.Slot(kGva, Level::k4K) & hw_entry::kDirty);
}

TEST_F(PaeCpuTest, Bits52To62OfEntriesAreReserved) {
  for (Level level : {Level::k4K, Level::k2M}) {
    tables_.Map(kGva, Pfn(1), Level::k4K, kUserWritable);
    tables_.Slot(kGva, level) |= uint64_t{1} << 58;
    ASSERT_EQ(cpu_.Load(tables_.State()), "");
    const CpuResult result = cpu_.Access(kGva, Read());
    EXPECT_EQ(result.error_code, pf_error::kPresent | pf_error::kReserved);
    tables_.Slot(kGva, level) &= ~(uint64_t{1} << 58);
  }
}

}  // namespace
}  // namespace shadowmmu::testing
