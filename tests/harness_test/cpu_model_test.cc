// CpuModel: how it walks, what it refuses, and what it reports.

#include "tests/harness/cpu_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/harness/test_host.h"
#include "tests/harness_test/hand_tables.h"

namespace shadowmmu::testing {
namespace {

using ::testing::HasSubstr;

constexpr Gva kGva{0x7f12'3456'7000};
constexpr uint64_t kUserWritable = hw_entry::kUser | hw_entry::kWritable;

class CpuModelTest : public ::testing::Test {
 protected:
  CpuResult User(Access access, Gva gva = kGva) {
    access.privilege = Privilege::kUser;
    return cpu_.Access(gva, access);
  }
  uint32_t FaultCode(const CpuResult& result) {
    EXPECT_EQ(result.kind, CpuResult::Kind::kPageFault) << result;
    return result.error_code;
  }
  void Load() { ASSERT_EQ(cpu_.Load(tables_.State()), ""); }
  // Loads with NXE clear, or with CR0.WP clear.
  void LoadWithout(uint64_t efer_bits, uint64_t cr0_bits) {
    HardwareState state = tables_.State();
    state.efer &= ~efer_bits;
    state.cr0 &= ~cr0_bits;
    ASSERT_EQ(cpu_.Load(state), "");
  }

  TestHost host_{TestHost::Options{.frames = 8}};
  HandTables tables_{&host_, Level::k512G};
  CpuModel cpu_{&host_, EntryFormat{}};
};

TEST_F(CpuModelTest, FourLevelsTranslateToThePageAndItsOffset) {
  tables_.Map(kGva, Pfn(0x12345), Level::k4K, kUserWritable);
  Load();
  const CpuResult result = User(Read(), kGva + 0xabc);
  ASSERT_TRUE(result.hit()) << result;
  EXPECT_EQ(result.hpa, Hpa(0x12345'abc));
  EXPECT_EQ(result.level, Level::k4K);
  EXPECT_FALSE(result.from_tlb);
}

TEST_F(CpuModelTest, LargePagesTranslateWithTheirWholeOffset) {
  tables_.Map(Gva(0x20'0000), Pfn(0x40000), Level::k2M, kUserWritable);
  tables_.Map(Gva(0x4000'0000), Pfn(0x80000), Level::k1G, kUserWritable);
  Load();
  const CpuResult two = User(Read(), Gva(0x20'0000 + 0x12'3456));
  EXPECT_EQ(two.hpa, Hpa(0x4000'0000 + 0x12'3456)) << two;
  EXPECT_EQ(two.level, Level::k2M);
  const CpuResult one = User(Read(), Gva(0x4000'0000 + 0x2345'6789));
  EXPECT_EQ(one.hpa, Hpa(0x8000'0000 + 0x2345'6789)) << one;
  EXPECT_EQ(one.level, Level::k1G);
}

TEST_F(CpuModelTest, AnAddressThatIsNotCanonicalIsAGeneralProtectionFault) {
  Load();
  EXPECT_EQ(User(Read(), Gva(0x0000'8000'0000'0000)).kind,
            CpuResult::Kind::kGeneralProtection);
  EXPECT_EQ(User(Read(), Gva(0xffff'7fff'ffff'f000)).kind,
            CpuResult::Kind::kGeneralProtection);
  EXPECT_EQ(User(Read(), Gva(0xffff'8000'0000'0000)).kind,
            CpuResult::Kind::kPageFault);
}

TEST_F(CpuModelTest, FiveLevelsReachAddressesOf57Bits) {
  EntryFormat format;
  format.has_five_levels = true;
  CpuModel cpu(&host_, format);
  HandTables five(&host_, Level::k256T);
  const Gva high(0x00ab'cdef'0123'4000);
  five.Map(high, Pfn(0x777), Level::k4K, kUserWritable);
  ASSERT_EQ(cpu.Load(five.State()), "");
  EXPECT_EQ(cpu.Access(high, Read()).hpa, ToHpa(Pfn(0x777)));
  EXPECT_EQ(cpu.StructureEntries().size(), 4u);
  EXPECT_EQ(cpu.Access(Gva(0x0100'0000'0000'0000), Read()).kind,
            CpuResult::Kind::kGeneralProtection);
}

// ---- Error codes ----

TEST_F(CpuModelTest, AnEntryThatIsNotPresentFaultsWithPClearAtEachLevel) {
  for (Level level : {Level::k4K, Level::k2M, Level::k1G, Level::k512G}) {
    tables_.Map(kGva, Pfn(1), Level::k4K, kUserWritable);
    uint64_t& slot = tables_.Slot(kGva, level);
    const uint64_t kept = slot;
    slot &= ~hw_entry::kPresent;
    slot |= hw_entry::kNoExecute | (uint64_t{1} << 51);  // of no account
    Load();
    EXPECT_EQ(FaultCode(User(Read())), pf_error::kUser) << level;
    EXPECT_EQ(FaultCode(User(Write())), pf_error::kUser | pf_error::kWrite);
    EXPECT_EQ(FaultCode(User(Fetch())), pf_error::kUser | pf_error::kFetch);
    EXPECT_EQ(FaultCode(cpu_.Access(kGva, Read())), 0u);
    slot = kept;
  }
}

TEST_F(CpuModelTest, EachMissingRightFaultsAtWhateverLevelItIsMissing) {
  for (Level level : {Level::k4K, Level::k2M, Level::k1G, Level::k512G}) {
    tables_.Map(kGva, Pfn(1), Level::k4K, kUserWritable);
    uint64_t& slot = tables_.Slot(kGva, level);
    const uint64_t kept = slot;

    slot = kept & ~hw_entry::kWritable;
    Load();
    EXPECT_EQ(FaultCode(User(Write())),
              pf_error::kPresent | pf_error::kUser | pf_error::kWrite);
    EXPECT_EQ(FaultCode(cpu_.Access(kGva, Write())),
              pf_error::kPresent | pf_error::kWrite);
    EXPECT_TRUE(User(Read()).hit());

    slot = kept & ~hw_entry::kUser;
    Load();
    EXPECT_EQ(FaultCode(User(Read())), pf_error::kPresent | pf_error::kUser);
    EXPECT_TRUE(cpu_.Access(kGva, Write()).hit());

    slot = kept | hw_entry::kNoExecute;
    Load();
    EXPECT_EQ(FaultCode(User(Fetch())),
              pf_error::kPresent | pf_error::kUser | pf_error::kFetch);
    EXPECT_TRUE(User(Write()).hit());
    slot = kept;
  }
}

TEST_F(CpuModelTest, AnImplicitAccessIsASupervisorOneWhateverTheCpl) {
  tables_.Map(kGva, Pfn(1), Level::k4K, hw_entry::kWritable);
  Load();
  Access implicit = Read(Privilege::kUser);
  implicit.implicit = Implicit::kYes;
  EXPECT_TRUE(cpu_.Access(kGva, implicit).hit());
  EXPECT_EQ(FaultCode(cpu_.Access(kGva + kPageSize, implicit)), 0u);
}

TEST_F(CpuModelTest, WithWpClearOnlyTheSupervisorWritesReadOnlyPages) {
  tables_.Map(kGva, Pfn(1), Level::k4K, hw_entry::kUser);
  LoadWithout(0, cr0::kWp);
  EXPECT_EQ(FaultCode(User(Write())),
            pf_error::kPresent | pf_error::kUser | pf_error::kWrite);
  EXPECT_TRUE(cpu_.Access(kGva, Write()).hit());
}

TEST_F(CpuModelTest, WithNxeClearNxIsReservedAndFetchesAreNotReported) {
  tables_.Map(kGva, Pfn(1), Level::k4K, kUserWritable | hw_entry::kNoExecute);
  LoadWithout(efer::kNxe, 0);
  EXPECT_EQ(FaultCode(User(Read())),
            pf_error::kPresent | pf_error::kReserved | pf_error::kUser);
  EXPECT_EQ(FaultCode(User(Fetch(), kGva + kPageSize)), pf_error::kUser);
}

// ---- Reserved bits ----

struct EntryCase {
  Level level;
  uint64_t bits;
};

TEST_F(CpuModelTest, ReservedBitsFaultAtTheEntryThatHasThem) {
  const uint64_t ps = hw_entry::kPageSize;
  const std::vector<EntryCase> cases = {
      {Level::k4K, uint64_t{1} << 48},
      {Level::k4K, uint64_t{1} << 51},
      {Level::k2M, uint64_t{1} << 48},
      {Level::k2M, ps | uint64_t{1} << 13},
      {Level::k2M, ps | uint64_t{1} << 20},
      {Level::k1G, ps | 1u << 13},
      {Level::k1G, ps | uint64_t{1} << 29},
      {Level::k1G, uint64_t{1} << 50},
      {Level::k512G, ps},
      {Level::k512G, uint64_t{1} << 49},
  };
  for (const EntryCase& bad : cases) {
    tables_.Map(kGva, Pfn(1), Level::k4K, 0);
    uint64_t& slot = tables_.Slot(kGva, bad.level);
    const uint64_t kept = slot;
    if ((bad.bits & ps) != 0 && bad.level != Level::k512G) slot = kLink;
    slot |= bad.bits;
    Load();
    // The leaf forbids it too; the reserved bit comes first.
    EXPECT_EQ(FaultCode(User(Write())), pf_error::kPresent |
                                            pf_error::kReserved |
                                            pf_error::kUser | pf_error::kWrite)
        << bad.level << std::hex << " " << bad.bits;
    slot = kept;
  }
}

TEST_F(CpuModelTest, BitsThatAreIgnoredDoNotFault) {
  const uint64_t ignored = (uint64_t{0x7ff} << 52) | (uint64_t{7} << 9);
  tables_.Map(kGva, Pfn(1), Level::k4K,
              kUserWritable | ignored | hw_entry::kPageSize /* PAT */);
  tables_.Map(Gva(0x20'0000), Pfn(0x200), Level::k2M,
              kUserWritable | ignored | (1u << 12) /* PAT */);
  for (Level level : {Level::k2M, Level::k1G, Level::k512G}) {
    tables_.Slot(kGva, level) |= ignored;
  }
  Load();
  EXPECT_EQ(User(Read()).hpa, ToHpa(Pfn(1)));
  EXPECT_EQ(User(Read(), Gva(0x20'0000)).hpa, ToHpa(Pfn(0x200)));
}

TEST_F(CpuModelTest, PageSizeInAPdpteIsReservedOnACpuWithout1GPages) {
  EntryFormat format;
  format.has_1g_pages = false;
  CpuModel old(&host_, format);
  tables_.Map(Gva(0), Pfn(0), Level::k1G, kUserWritable);
  ASSERT_EQ(old.Load(tables_.State()), "");
  EXPECT_EQ(FaultCode(old.Access(Gva(0), Read())),
            pf_error::kPresent | pf_error::kReserved);
}

TEST_F(CpuModelTest, TheEncryptionBitIsNoPartOfAnAddressAndNotReserved) {
  EntryFormat format;
  format.physical_bits = 43;
  format.encryption_bit = uint64_t{1} << 47;
  CpuModel encrypting(&host_, format);
  tables_.Map(kGva, Pfn(5), Level::k4K, kUserWritable);
  for (Level level : {Level::k4K, Level::k2M, Level::k1G, Level::k512G}) {
    tables_.Slot(kGva, level) |= format.encryption_bit;
  }
  HardwareState state = tables_.State();
  state.root = Hpa(state.root.value() | format.encryption_bit);
  ASSERT_EQ(encrypting.Load(state), "");
  EXPECT_EQ(encrypting.Access(kGva, Read()).hpa, ToHpa(Pfn(5)));
  tables_.Slot(kGva, Level::k4K) |= uint64_t{1} << 46;
  encrypting.EvictAll();
  EXPECT_EQ(FaultCode(encrypting.Access(kGva, Read())),
            pf_error::kPresent | pf_error::kReserved);
}

TEST_F(CpuModelTest, TablesThatAreNoTablesAreReportedAndNotRead) {
  tables_.Slot(kGva, Level::k2M) = ToHpa(kFirstFramePfn).value() | kLink;
  Load();
  const CpuResult result = User(Read());
  EXPECT_EQ(result.kind, CpuResult::Kind::kBroken);
  EXPECT_THAT(result.broken, HasSubstr("0x100000000"));
}

// ---- Accessed and dirty ----

TEST_F(CpuModelTest, AReadSetsAccessedAtEachLevelAndNoDirtyBit) {
  tables_.Map(kGva, Pfn(1), Level::k4K, kUserWritable);
  Load();
  ASSERT_TRUE(User(Read()).hit());
  for (Level level : {Level::k4K, Level::k2M, Level::k1G, Level::k512G}) {
    const uint64_t entry = tables_.Slot(kGva, level);
    EXPECT_TRUE(entry & hw_entry::kAccessed) << level;
    EXPECT_FALSE(entry & hw_entry::kDirty) << level;
  }
}

TEST_F(CpuModelTest, AWriteSetsDirtyInTheLeafOnly) {
  tables_.Map(kGva, Pfn(0x200), Level::k2M, kUserWritable);
  Load();
  ASSERT_TRUE(User(Write()).hit());
  EXPECT_TRUE(tables_.Slot(kGva, Level::k2M) & hw_entry::kDirty);
  EXPECT_FALSE(tables_.Slot(kGva, Level::k1G) & hw_entry::kDirty);
}

TEST_F(CpuModelTest, AnAccessThatIsForbiddenLeavesTheLeafAlone) {
  tables_.Map(kGva, Pfn(1), Level::k4K, hw_entry::kUser);
  const uint64_t before = tables_.Slot(kGva, Level::k4K);
  Load();
  FaultCode(User(Write()));
  EXPECT_EQ(tables_.Slot(kGva, Level::k4K), before);
}

TEST_F(CpuModelTest, ACpuWithoutAccessedAndDirtySetsNeither) {
  EntryFormat format;
  format.has_accessed_dirty = false;
  CpuModel plain(&host_, format);
  tables_.Map(kGva, Pfn(1), Level::k4K, kUserWritable);
  ASSERT_EQ(plain.Load(tables_.State()), "");
  ASSERT_TRUE(plain.Access(kGva, Read()).hit());
  const CpuResult write = plain.Access(kGva, Write());
  EXPECT_TRUE(write.from_tlb) << "there is no D bit to walk for";
  const uint64_t bits = hw_entry::kAccessed | hw_entry::kDirty;
  EXPECT_EQ(tables_.Slot(kGva, Level::k4K) & bits, 0u);
  EXPECT_EQ(tables_.Slot(kGva, Level::k2M) & bits, 0u);
}

// ---- Registers ----

TEST_F(CpuModelTest, RegistersThatTheModelDoesNotHaveAreRefused) {
  const HardwareState good = tables_.State();
  HardwareState state = good;
  state.cr0 &= ~cr0::kPg;
  EXPECT_THAT(cpu_.Load(state), HasSubstr("CR0.PG"));
  state = good;
  state.cr4 &= ~cr4::kPae;
  EXPECT_THAT(cpu_.Load(state), HasSubstr("CR4.PAE"));
  state = good;
  state.cr4 |= cr4::kPge;
  EXPECT_THAT(cpu_.Load(state), HasSubstr("not modelled"));
  state = good;
  state.efer &= ~efer::kLme;
  EXPECT_THAT(cpu_.Load(state), HasSubstr("EFER.LME"));
  EXPECT_FALSE(cpu_.state().has_value());
  EXPECT_EQ(cpu_.Load(good), "");
  EXPECT_EQ(cpu_.state(), good);
}

TEST_F(CpuModelTest, NxeIsRefusedOnACpuWithoutNx) {
  EntryFormat format;
  format.has_no_execute = false;
  CpuModel old(&host_, format);
  EXPECT_THAT(old.Load(tables_.State()), HasSubstr("NX"));
}

TEST_F(CpuModelTest, ALongModeRootThatIsUnalignedOrTooHighIsRefused) {
  HardwareState state = tables_.State();
  state.root += 32;
  EXPECT_THAT(cpu_.Load(state), HasSubstr("aligned"));
  state.root = Hpa(uint64_t{1} << 48);
  EXPECT_THAT(cpu_.Load(state), HasSubstr("reserved"));
}

}  // namespace
}  // namespace shadowmmu::testing
