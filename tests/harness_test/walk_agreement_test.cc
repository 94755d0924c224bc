// The CPU model and the oracle were written apart from each other, one for
// shadow tables and one for guest tables. With PAE, four and five levels the
// rules are the same, so on the same memory they must agree: on each outcome,
// error code, address, and on the accessed and dirty bits of an access that
// goes through.

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <map>
#include <random>

#include "tests/harness/cpu_model.h"
#include "tests/harness/oracle.h"
#include "tests/harness/test_host.h"

namespace shadowmmu::testing {
namespace {

constexpr uint32_t kPages = 6;
constexpr unsigned kPhysicalBits = 40;
constexpr std::array<unsigned, 3> kIndices = {0, 1, 511};
constexpr Gpa kRoot{0};
// Of PAE paging, between the entries that the tables use.
constexpr Gpa kPdptes{0x800};

// Shows the frames of a host as physical memory from 0 on, all of it tables.
class FlatMemory : public PhysicalMemory {
 public:
  explicit FlatMemory(const TestHost* host) : host_(host) {}
  void* PointerToTable(Hpa hpa) const override {
    std::byte* const frame =
        host_->PointerToFrame(kFirstFramePfn + ToPfn(hpa).value());
    return frame == nullptr ? nullptr : frame + (hpa.value() & kPageOffsetMask);
  }

 private:
  const TestHost* const host_;
};

class WalkAgreementTest : public ::testing::Test {
 protected:
  void SetUp() override {
    host_.MapRange(Hva(0), kPages, Frame{0});
    SlotSpec slot;
    slot.pages = kPages;
    memory_.AddSlot(slot);
    registers_.cr0 = cr0::kPe | cr0::kPg | cr0::kWp;
    registers_.cr4 = cr4::kPae;
    registers_.efer = efer::kNxe;
  }

  uint64_t Below(uint64_t bound) { return random_() % bound; }
  bool OneIn(uint64_t n) { return Below(n) == 0; }

  // Mostly well-formed: a walk should often reach its end.
  uint64_t RandomEntry() {
    uint64_t entry = Below(kPages + (OneIn(16) ? 3 : 0)) << kPageShift;
    entry |= random_() & 0xe7e;  // all low bits but P and PS, and bit 8
    entry |= OneIn(3) ? 0 : 0x6;
    if (!OneIn(12)) entry |= 0x1;
    if (OneIn(8)) entry = (entry & ~uint64_t{0x3f'f000}) | 0x80;
    if (OneIn(16)) entry |= 0x80;
    if (OneIn(8)) entry |= uint64_t{1} << 63;
    if (OneIn(24)) entry |= uint64_t{1} << (40 + Below(23));
    if (OneIn(4)) entry |= Below(16) << 59;  // a key, or reserved
    return entry;
  }
  void FillTables() {
    for (uint32_t page = 0; page < kPages; ++page) {
      for (unsigned index : kIndices) {
        ASSERT_TRUE(memory_.Write64(AddressSpace::kNormal,
                                    Gpa(page * kPageSize + index * 8),
                                    RandomEntry()));
      }
    }
  }
  bool five_levels() const { return (registers_.cr4 & cr4::kLa57) != 0; }
  bool long_mode() const { return (registers_.efer & efer::kLma) != 0; }
  // Another mode; bits of the control registers turned round.
  void ChangeRegisters() {
    constexpr uint64_t kLong = efer::kLme | efer::kLma;
    const uint64_t mode = Below(3);  // PAE, four levels, five
    registers_.efer &= ~kLong;
    registers_.cr4 &= ~cr4::kLa57;
    if (mode != 0) registers_.efer |= kLong;
    if (mode == 2) registers_.cr4 |= cr4::kLa57;
    registers_.cr3 = (mode == 0 ? kPdptes : kRoot).value();
    if (OneIn(4)) registers_.efer ^= efer::kNxe;
    if (OneIn(4)) registers_.cr0 ^= cr0::kWp;
    for (const uint64_t bit : {cr4::kSmep, cr4::kSmap, cr4::kPke}) {
      if (OneIn(3)) registers_.cr4 ^= bit;
    }
  }
  // Legal ones, in memory too, where the CPU model reads them.
  Pdptes FillPdptes() {
    Pdptes pdptes = {};
    for (unsigned i = 0; i < pdptes.size(); ++i) {
      pdptes[i] = Below(kPages) << kPageShift | (random_() & 0xe18);
      if (!OneIn(8)) pdptes[i] |= 1;
      EXPECT_TRUE(
          memory_.Write64(AddressSpace::kNormal, kPdptes + i * 8, pdptes[i]));
    }
    return pdptes;
  }
  Gva RandomGva() {
    uint64_t gva = Below(kPageSize);
    for (unsigned shift : {12u, 21u, 30u, 39u, 48u}) {
      if (shift == 48 && !five_levels()) break;
      gva |= uint64_t{kIndices[Below(kIndices.size())]} << shift;
    }
    const unsigned top = five_levels() ? 56 : 47;
    const bool high = ((gva >> top) & 1) != 0;
    if (high != OneIn(32)) gva |= ~uint64_t{0} << (top + 1);
    return Gva(gva);
  }
  Access RandomAccess() {
    Access access;
    access.type = std::array{AccessType::kRead, AccessType::kWrite,
                             AccessType::kFetch}[Below(3)];
    access.privilege = OneIn(2) ? Privilege::kUser : Privilege::kSupervisor;
    access.implicit = OneIn(8) ? Implicit::kYes : Implicit::kNo;
    access.eflags_ac = OneIn(2);
    access.pkru = OneIn(2) ? 0 : static_cast<uint32_t>(random_() & random_());
    return access;
  }

  std::map<Gpa, uint64_t> Snapshot() {
    std::map<Gpa, uint64_t> entries;
    for (uint32_t page = 0; page < kPages; ++page) {
      for (unsigned index : kIndices) {
        const Gpa entry(page * kPageSize + index * 8);
        entries[entry] = *memory_.Read64(AddressSpace::kNormal, entry);
      }
    }
    return entries;
  }

  void Compare(const OracleResult& expected, const CpuResult& actual) {
    switch (expected.kind) {
      case OracleResult::Kind::kTranslated:
        ASSERT_TRUE(actual.hit());
        EXPECT_EQ(actual.hpa.value(), expected.gpa.value());
        EXPECT_EQ(actual.level, expected.level);
        return;
      case OracleResult::Kind::kGuestFault:
        if (expected.fault.vector == GuestFault::Vector::kPage) {
          ASSERT_EQ(actual.kind, CpuResult::Kind::kPageFault);
          EXPECT_EQ(actual.error_code, expected.fault.error_code);
          EXPECT_EQ(actual.gva, expected.fault.address);
        } else {
          EXPECT_EQ(actual.kind, CpuResult::Kind::kGeneralProtection);
        }
        return;
      case OracleResult::Kind::kTableOutsideSlots:
        EXPECT_EQ(actual.kind, CpuResult::Kind::kBroken);
        return;
      default:
        FAIL() << "the oracle has no answer";
    }
  }

  TestHost host_{TestHost::Options{.frames = kPages}};
  GuestMemory memory_{&host_};
  Oracle oracle_{&memory_, kPhysicalBits};
  FlatMemory flat_{&host_};
  PagingRegisters registers_;
  std::mt19937_64 random_{20260101};
};

TEST_F(WalkAgreementTest, TheCpuModelAndTheOracleAgreeOnRandomTables) {
  constexpr int kRounds = 60'000;
  EntryFormat format = host_.Format();
  format.physical_bits = kPhysicalBits;
  std::map<OracleResult::Kind, int> seen;
  int denied_smap = 0;
  int denied_key = 0;
  for (int round = 0; round < kRounds; ++round) {
    FillTables();
    ChangeRegisters();
    const Pdptes pdptes = FillPdptes();
    CpuModel cpu(&flat_, format);
    ASSERT_EQ(cpu.Load({Hpa(registers_.cr3), registers_.cr0, registers_.cr4,
                        registers_.efer}),
              "");
    const Gva gva = RandomGva();
    const Access access = RandomAccess();
    OracleCpu guest{.registers = registers_};
    if (!long_mode()) guest.pdptes = pdptes;
    const OracleResult expected =
        oracle_.Translate(guest, AddressSpace::kNormal, gva, access);
    const bool granted = expected.kind == OracleResult::Kind::kTranslated;
    if (expected.kind != OracleResult::Kind::kTableOutsideSlots) {
      EXPECT_EQ(cpu.Grants(gva, access), granted);
    }
    std::map<Gpa, uint64_t> after = Snapshot();
    for (const EntryUpdate& update : expected.updates) {
      after[update.entry] |= update.bits;
    }
    const CpuResult actual = cpu.Access(gva, access);
    SCOPED_TRACE(::testing::Message()
                 << "round " << round << ", " << gva << ", " << access
                 << ": oracle " << expected << ", CPU " << actual);
    Compare(expected, actual);
    if (actual.hit()) {
      EXPECT_EQ(Snapshot(), after);
    }
    if (HasFailure()) return;
    ++seen[expected.kind];
    if (expected.denied.smap) ++denied_smap;
    if (expected.denied.key) ++denied_key;
  }
  // An agreement about nothing would prove nothing.
  EXPECT_GT(seen[OracleResult::Kind::kTranslated], kRounds / 10);
  EXPECT_GT(seen[OracleResult::Kind::kGuestFault], kRounds / 10);
  EXPECT_GT(seen[OracleResult::Kind::kTableOutsideSlots], kRounds / 200);
  EXPECT_GT(denied_smap, kRounds / 200);
  EXPECT_GT(denied_key, kRounds / 200);
}

}  // namespace
}  // namespace shadowmmu::testing
