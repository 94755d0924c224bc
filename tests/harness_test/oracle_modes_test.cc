// Oracle: the paging modes beside four-level paging, by tables that are
// computed by hand.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

#include "tests/harness/oracle.h"
#include "tests/harness_test/oracle_vm.h"

namespace shadowmmu::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr uint64_t kCr0 = 0x8001'0001;  // PG, WP, PE
constexpr uint64_t kPse = 0x10, kPae = 0x20, kLa57 = 0x1000;
constexpr uint64_t kNxe = 0x800, kLong = 0x500;

// ---- 32-bit ----

// The address selects entry 0x48 of the page directory, in frame 1, and entry
// 0x345 of the page table, in frame 2, which is the upper half of a word.
class Oracle32BitTest : public OracleVm {
 protected:
  static constexpr Gva kGva{0x1234'5678};
  static constexpr Gpa kPde{0x1120};
  static constexpr Gpa kPte{0x2d14};

  void SetUp() override {
    OracleVm::SetUp();
    Put32(kPde, 0x2000 | kP | kW | kU);
    Put32(kPte, 0x5000 | kP | kW | kU);
    cpu_.registers = {.cr0 = kCr0, .cr3 = 0x1000};
  }
};

TEST_F(Oracle32BitTest, TwoLevelsOfEntriesOf4BytesLeadToThePage) {
  const OracleResult result = Translate(kUserFetch, kGva);
  EXPECT_EQ(result.kind, OracleResult::Kind::kTranslated);
  EXPECT_EQ(result.gpa, Gpa(0x5678));
  EXPECT_EQ(result.level, Level::k4K);
  EXPECT_EQ(result.page_bytes, 0x1000u);
  EXPECT_EQ(result.key, 0u);
  EXPECT_TRUE(result.user && result.writable && result.executable);
  EXPECT_THAT(result.entries, ElementsAre(kPde, kPte));
  EXPECT_THAT(result.tables(), ElementsAre(Gfn(1), Gfn(2)));
}

TEST_F(Oracle32BitTest, TheLastEntriesOfTheTables) {
  Put32(Gpa(0x1ffc), 0x2000 | kP | kW);
  Put32(Gpa(0x2ffc), 0x5000 | kP | kW);
  EXPECT_EQ(Target(Read(), Gva(0xffff'fabc)), Gpa(0x5abc));
}

TEST_F(Oracle32BitTest, TheAddressIsCutTo32Bits) {
  const Gva wide(0xdead'beef'1234'5678);
  EXPECT_EQ(Target(Read(), wide), Gpa(0x5678));
  Put32(kPte, 0);
  EXPECT_EQ(Translate(Read(), wide).fault.address, kGva);
}

TEST_F(Oracle32BitTest, OfCr3Bits31To12Count) {
  cpu_.registers.cr3 = 0xffff'fff0'0000'1fff;
  EXPECT_EQ(Target(Read(), kGva), Gpa(0x5678));
}

TEST_F(Oracle32BitTest, ADirectoryOutsideTheSlots) {
  cpu_.registers.cr3 = 0x7000'0000;
  const OracleResult result = Translate(Read(), kGva);
  EXPECT_EQ(result.kind, OracleResult::Kind::kTableOutsideSlots);
  EXPECT_EQ(result.gpa, Gpa(0x7000'0120));
  EXPECT_THAT(result.entries, IsEmpty());
}

TEST_F(Oracle32BitTest, AccessedAndDirtyAreSetInEntriesOf4Bytes) {
  EXPECT_THAT(Translate(Write(), kGva).updates,
              ElementsAre(EntryUpdate{kPde, kA}, EntryUpdate{kPte, kA | kD}));
  cpu_.registers.cr4 = kPse;
  Put32(kPde, 0x0080'0000 | kP | kW | kPs | kA);
  EXPECT_THAT(Translate(Write(), kGva).updates,
              ElementsAre(EntryUpdate{kPde, kD}));
}

TEST_F(Oracle32BitTest, RightsAreTheIntersectionOfBothLevels) {
  for (Gpa entry : {kPde, kPte}) {
    const uint32_t address = entry == kPde ? 0x2000 : 0x5000;
    Put32(entry, address | kP | kU);
    EXPECT_EQ(FaultCode(kUserWrite, kGva), 7u);
    EXPECT_EQ(FaultCode(Write(), kGva), 3u);
    Put32(entry, address | kP | kW);
    EXPECT_EQ(FaultCode(kUserRead, kGva), 5u);
    EXPECT_EQ(Target(Write(), kGva), Gpa(0x5678));
    Put32(entry, address | kP | kW | kU);
  }
}

TEST_F(Oracle32BitTest, PageSizeCountsOnlyWithCr4Pse) {
  Put32(kPde, 0x2000 | kP | kW | kU | kPs);
  EXPECT_EQ(Target(Read(), kGva), Gpa(0x5678));
  cpu_.registers.cr4 = kPse;
  Put32(kPde, 0x0080'0000 | kP | kW | kU | kPs | 0x1000);
  const OracleResult large = Translate(Read(), kGva);
  EXPECT_EQ(large.gpa, Gpa(0x0080'0000 + 0x34'5678));
  EXPECT_EQ(large.level, Level::k2M);
  EXPECT_EQ(large.page_bytes, 0x40'0000u);
  EXPECT_THAT(large.entries, ElementsAre(kPde));
}

TEST_F(Oracle32BitTest, NothingButALargePagesEntryHasReservedBits) {
  cpu_.registers.cr4 = kPse;
  // All of bits 11:8 and 6:3; in the PTE bit 7, too.
  Put32(kPde, 0x2000 | kP | kW | kU | 0xf78);
  Put32(kPte, 0x5000 | kP | kW | kU | 0xff8);
  EXPECT_EQ(Target(kUserWrite, kGva), Gpa(0x5678));
  Put32(kPte, 0xffff'f000 | kP);
  EXPECT_EQ(Target(Read(), kGva), Gpa(0xffff'f678));
}

struct LargeCase {
  const char* name;
  unsigned physical_bits;
  bool pse36;
  uint32_t bits;                // of the PDE of a page at 0x80'0000
  std::optional<uint64_t> gpa;  // absent: reserved
};

TEST_F(Oracle32BitTest, Pse36) {
  const LargeCase cases[] = {
      {"plain", 40, true, 0, 0x00b4'5678},
      {"bit 13 is address bit 32", 40, true, 1 << 13, 0x1'00b4'5678},
      {"bit 20 is address bit 39", 40, true, 1 << 20, 0x80'00b4'5678},
      {"all of 39:32", 40, true, 0x1f'e000, 0xff'00b4'5678},
      {"21, MAXPHYADDR 40", 40, true, 1 << 21, std::nullopt},
      {"never more than 40: 20", 52, true, 1 << 20, 0x80'00b4'5678},
      {"never more than 40: 21", 52, true, 1 << 21, std::nullopt},
      {"16, MAXPHYADDR 36", 36, true, 1 << 16, 0x8'00b4'5678},
      {"17, MAXPHYADDR 36", 36, true, 1 << 17, std::nullopt},
      {"20, MAXPHYADDR 36", 36, true, 1 << 20, std::nullopt},
      {"21, MAXPHYADDR 36", 36, true, 1 << 21, std::nullopt},
      {"19, MAXPHYADDR 39", 39, true, 1 << 19, 0x40'00b4'5678},
      {"20, MAXPHYADDR 39", 39, true, 1 << 20, std::nullopt},
      {"no PSE-36, plain", 40, false, 0, 0x00b4'5678},
      {"no PSE-36, 12 is PAT", 40, false, 1 << 12, 0x00b4'5678},
      {"no PSE-36, 13", 40, false, 1 << 13, std::nullopt},
      {"no PSE-36, 21", 40, false, 1 << 21, std::nullopt},
  };
  cpu_.registers.cr4 = kPse;
  for (const LargeCase& large : cases) {
    SCOPED_TRACE(large.name);
    SetPhysicalBits(large.physical_bits);
    cpu_.features.pse36 = large.pse36;
    Put32(kPde, 0x0080'0000 | kP | kU | kPs | large.bits);
    if (large.gpa) {
      EXPECT_EQ(Target(kUserRead, kGva), Gpa(*large.gpa));
    } else {
      // P, W/R, U/S, RSVD: before rights.
      EXPECT_EQ(FaultCode(kUserWrite, kGva), 0xfu);
    }
  }
}

// ---- PAE ----

// The address selects PDPTE 1, entry 0x2b of the page directory, in frame 1,
// and entry 0x78 of the page table, in frame 2.
class OraclePaeTest : public OracleVm {
 protected:
  static constexpr Gva kGva{0x4567'8abc};
  static constexpr Gpa kPde{0x1158};
  static constexpr Gpa kPte{0x23c0};

  void SetUp() override {
    OracleVm::SetUp();
    Put(kPde, 0x2000 | kP | kW | kU);
    Put(kPte, 0x5000 | kP | kW | kU);
    // Where CR3 leads does not matter: the registers do.
    cpu_.registers = {
        .cr0 = kCr0, .cr3 = 0x7000'0000, .cr4 = kPae, .efer = kNxe};
    cpu_.pdptes = {0, 0x1000 | kP, 0, 0};
  }
};

TEST_F(OraclePaeTest, APdpteRegisterAndTwoLevelsLeadToThePage) {
  const OracleResult result = Translate(kUserWrite, kGva);
  EXPECT_EQ(result.gpa, Gpa(0x5abc));
  EXPECT_EQ(result.level, Level::k4K);
  EXPECT_TRUE(result.user && result.writable && result.executable);
  EXPECT_THAT(result.entries, ElementsAre(kPde, kPte));
  EXPECT_THAT(result.updates,
              ElementsAre(EntryUpdate{kPde, kA}, EntryUpdate{kPte, kA | kD}));
  EXPECT_EQ(Target(Read(), Gva(0xffff'ffff'4567'8abc)), Gpa(0x5abc));
}

TEST_F(OraclePaeTest, Bits31And30ChooseThePdpte) {
  for (unsigned i = 0; i < 4; ++i) {
    cpu_.pdptes = {};
    cpu_.pdptes[i] = 0x1000 | kP;
    const Gva gva(0x0567'8abc + i * 0x4000'0000ull);
    EXPECT_EQ(Target(Read(), gva), Gpa(0x5abc));
    EXPECT_EQ(FaultCode(Read(), Gva(gva.value() ^ 0x8000'0000)), 0u);
  }
}

TEST_F(OraclePaeTest, APdpteThatIsNotPresentFaultsWithPClear) {
  cpu_.pdptes[1] = 0x1000 | kNx | Bit(45);
  EXPECT_EQ(FaultCode(Read(), kGva), 0u);
  EXPECT_EQ(FaultCode(kUserWrite, kGva), 6u);
  EXPECT_EQ(FaultCode(kUserFetch, kGva), 0x14u);
  const OracleResult result = Translate(Read(), kGva);
  EXPECT_THAT(result.entries, IsEmpty());
  EXPECT_EQ(result.page, std::nullopt);
}

TEST_F(OraclePaeTest, ADirectoryOutsideTheSlots) {
  cpu_.pdptes[1] = 0x7000'0000 | kP;
  const OracleResult result = Translate(Read(), kGva);
  EXPECT_EQ(result.kind, OracleResult::Kind::kTableOutsideSlots);
  EXPECT_EQ(result.gpa, Gpa(0x7000'0158));
}

TEST_F(OraclePaeTest, PageSizeInAPdeMaps2MWhateverPseIs) {
  Put(kPde, 0x60'0000 | kP | kPs | 0x1000);
  for (uint64_t pse : {uint64_t{0}, kPse}) {
    cpu_.registers.cr4 = kPae | pse;
    const OracleResult result = Translate(Read(), kGva);
    EXPECT_EQ(result.gpa, Gpa(0x67'8abc));
    EXPECT_EQ(result.level, Level::k2M);
    EXPECT_EQ(result.page_bytes, 0x20'0000u);
  }
}

TEST_F(OraclePaeTest, AddressesHaveMaxphyaddrBits) {
  Put(kPte, 0xff'ffff'f000 | kP);
  EXPECT_EQ(Target(Read(), kGva), Gpa(0xff'ffff'fabc));
}

TEST_F(OraclePaeTest, NxCountsWithNxe) {
  Put(kPte, 0x5000 | kP | kU | kNx);
  EXPECT_EQ(FaultCode(kUserFetch, kGva), 0x15u);
  EXPECT_EQ(Target(kUserRead, kGva), Gpa(0x5abc));
}

// Also of long mode.
struct ReservedBit {
  const char* name;
  Gpa entry;
  uint64_t value;
};

TEST_F(OraclePaeTest, ReservedBits) {
  const ReservedBit cases[] = {
      {"PDE, MAXPHYADDR", kPde, 0x2000 | Bit(40)},
      {"PDE, 52", kPde, 0x2000 | Bit(52)},
      {"PDE, 62", kPde, 0x2000 | Bit(62)},
      {"PTE, MAXPHYADDR", kPte, 0x5000 | Bit(40)},
      {"PTE, 51", kPte, 0x5000 | Bit(51)},
      {"PTE, 59", kPte, 0x5000 | Bit(59)},
      {"PTE, 62", kPte, 0x5000 | Bit(62)},
      {"2M, 13", kPde, 0x60'0000 | kPs | Bit(13)},
      {"2M, 20", kPde, 0x60'0000 | kPs | Bit(20)},
      {"2M, 62", kPde, 0x60'0000 | kPs | Bit(62)},
  };
  for (const ReservedBit& bad : cases) {
    SCOPED_TRACE(bad.name);
    const uint64_t kept = Get(bad.entry);
    Put(bad.entry, bad.value | kP);
    EXPECT_EQ(FaultCode(kUserRead, kGva), 0xdu);
    Put(bad.entry, kept);
  }
  cpu_.registers.efer = 0;
  for (Gpa entry : {kPde, kPte}) {
    const uint64_t kept = Get(entry);
    Put(entry, kept | kNx);
    EXPECT_EQ(FaultCode(Read(), kGva), 9u);
    Put(entry, kept);
  }
}

TEST_F(OraclePaeTest, ThereAreNoKeys) {
  cpu_.registers.cr4 |= 0x40'0000;  // PKE
  Access access = kUserWrite;
  access.pkru = 0xffff'ffff;
  EXPECT_EQ(Target(access, kGva), Gpa(0x5abc));
  EXPECT_EQ(Translate(access, kGva).key, 0u);
}

// ---- Four levels: what depends on the CPU ----

using OracleFourLevelTest = FourLevelVm;

TEST_F(OracleFourLevelTest, PagesOf1GibOnlyIfTheCpuHasThem) {
  Put(kPdpte, 0x8000'0000 | kP | kU | kPs);
  EXPECT_EQ(Target(kUserRead), Gpa(0x8243'4000));
  EXPECT_EQ(Translate(kUserRead).page_bytes, 0x4000'0000u);
  cpu_.features.one_gib_pages = false;
  EXPECT_EQ(FaultCode(kUserRead), 0xdu);
  // Of a page of 2 MiB that says nothing.
  Put(kPdpte, 0x3000 | kP | kU);
  Put(kPde, 0x60'0000 | kP | kU | kPs);
  EXPECT_EQ(Target(kUserRead), Gpa(0x63'4000));
}

TEST_F(OracleFourLevelTest, TheKeyIsBits62To59OfTheLeaf) {
  Put(kPml4e, 0x2000 | kP | kW | kU | (uint64_t{0xf} << 59));
  Put(kPde, 0x4000 | kP | kW | kU | (uint64_t{0xf} << 59));
  EXPECT_EQ(Translate(Read()).key, 0u);
  Put(kPte, 0x5000 | kP | (uint64_t{0xa} << 59));
  EXPECT_EQ(Translate(Read()).key, 0xau);
  Put(kPde, 0x60'0000 | kP | kPs | (uint64_t{0x7} << 59));
  EXPECT_EQ(Translate(Read()).key, 0x7u);
}

// ---- Five levels ----

class OracleFiveLevelTest : public FourLevelVm {
 protected:
  // As FourLevelVm's, below entry 0x0ab of the PML5 in frame 6.
  static constexpr Gva kGva5{0x00ab'55b3'4243'4000};
  static constexpr Gpa kPml5e{0x6000 + 0x0ab * 8};

  void SetUp() override {
    FourLevelVm::SetUp();
    Put(kPml5e, 0x1000 | kP | kW | kU);
    cpu_.registers.cr3 = 0x6000;
    cpu_.registers.cr4 |= kLa57;
  }
};

TEST_F(OracleFiveLevelTest, FiveLevelsLeadToThePage) {
  const OracleResult result = Translate(kUserWrite, kGva5 + 0x321);
  EXPECT_EQ(result.gpa, Gpa(0x5321));
  EXPECT_THAT(result.entries, ElementsAre(kPml5e, kPml4e, kPdpte, kPde, kPte));
  EXPECT_THAT(result.updates,
              ElementsAre(EntryUpdate{kPml5e, kA}, EntryUpdate{kPml4e, kA},
                          EntryUpdate{kPdpte, kA}, EntryUpdate{kPde, kA},
                          EntryUpdate{kPte, kA | kD}));
}

TEST_F(OracleFiveLevelTest, RightsCountInThePml5e) {
  Put(kPml5e, 0x1000 | kP | kU | kNx);
  EXPECT_EQ(FaultCode(Write(), kGva5), 3u);
  EXPECT_EQ(FaultCode(Fetch(), kGva5), 0x11u);
  Put(kPml5e, 0x1000 | kP | kW);
  EXPECT_EQ(FaultCode(kUserRead, kGva5), 5u);
  Put(kPml5e, 0x1000);
  EXPECT_EQ(FaultCode(Read(), kGva5), 0u);
}

TEST_F(OracleFiveLevelTest, PageSizeIsReservedInPml5eAndPml4e) {
  for (Gpa entry : {kPml5e, kPml4e}) {
    const uint64_t kept = Get(entry);
    Put(entry, kept | kPs);
    EXPECT_EQ(FaultCode(Read(), kGva5), 9u);
    Put(entry, kept | Bit(51));
    EXPECT_EQ(FaultCode(Read(), kGva5), 9u);
    Put(entry, kept | Bit(52) | Bit(62));
    EXPECT_EQ(Target(Read(), kGva5), Gpa(0x5000));
    Put(entry, kept);
  }
}

TEST_F(OracleFiveLevelTest, CanonicalIs57Bits) {
  const auto is_protection_fault = [this](uint64_t gva) {
    const OracleResult result = Translate(Read(), Gva(gva));
    EXPECT_EQ(result.kind, OracleResult::Kind::kGuestFault);
    return result.fault.vector == GuestFault::Vector::kGeneralProtection;
  };
  // The last and the first canonical one, and some that 48 bits do not allow.
  for (uint64_t gva : {0x00ff'ffff'ffff'f000, 0x0000'8000'0000'0000}) {
    EXPECT_FALSE(is_protection_fault(gva)) << std::hex << gva;
  }
  EXPECT_FALSE(is_protection_fault(0xff00'0000'0000'0000));
  for (uint64_t gva : {0x0100'0000'0000'0000u, 0xfeff'ffff'ffff'ffffu,
                       0x80ab'55b3'4243'4000u, 0x7fff'ffff'ffff'ffffu}) {
    EXPECT_TRUE(is_protection_fault(gva)) << std::hex << gva;
  }
  // With four levels the same address has too many bits.
  cpu_.registers.cr4 &= ~kLa57;
  EXPECT_TRUE(is_protection_fault(kGva5.value()));
}

// ---- Fetches in an error code ----

struct FetchCase {
  const char* name;
  uint64_t cr4;
  uint64_t efer;
  uint32_t fetch;  // error code of a supervisor's fetch, not present
};

TEST_F(OracleVm, AFetchIsReportedWithSmepOrPaeAndNxe) {
  constexpr uint64_t kSmep = 0x10'0000;
  const FetchCase cases[] = {
      {"32-bit", 0, 0, 0},
      {"32-bit, NXE", 0, kNxe, 0},
      {"32-bit, SMEP", kSmep, 0, 0x10},
      {"PAE", kPae, 0, 0},
      {"PAE, NXE", kPae, kNxe, 0x10},
      {"PAE, SMEP", kPae | kSmep, 0, 0x10},
      {"PAE, both", kPae | kSmep, kNxe, 0x10},
      {"long", kPae, kLong, 0},
      {"long, NXE", kPae, kLong | kNxe, 0x10},
      {"long, SMEP", kPae | kSmep, kLong, 0x10},
      {"five levels", kPae | kLa57, kLong, 0},
      {"five levels, NXE", kPae | kLa57, kLong | kNxe, 0x10},
  };
  for (const FetchCase& mode : cases) {
    SCOPED_TRACE(mode.name);
    cpu_.registers = {
        .cr0 = kCr0, .cr3 = 0x1000, .cr4 = mode.cr4, .efer = mode.efer};
    EXPECT_EQ(FaultCode(Fetch(), Gva(0x1000)), mode.fetch);
    EXPECT_EQ(FaultCode(kUserFetch, Gva(0x1000)), mode.fetch | 4);
    EXPECT_EQ(FaultCode(Read(), Gva(0x1000)), 0u);
    EXPECT_EQ(FaultCode(kUserWrite, Gva(0x1000)), 6u);
  }
}

}  // namespace
}  // namespace shadowmmu::testing
