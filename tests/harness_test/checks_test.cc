// What the checks of an op-stream make of the oracle, where CR0.WP, SMAP, keys
// and PDPTE registers come in: World, StateCheck, AccessCheck, by hand.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/harness/access_check.h"
#include "tests/harness/op_values.h"
#include "tests/harness/state_check.h"
#include "tests/harness/world.h"

namespace shadowmmu::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr uint64_t kP = 1, kW = 2, kU = 4, kA = 0x20, kD = 0x40;
constexpr uint64_t kNx = uint64_t{1} << 63;
constexpr uint64_t kKey = uint64_t{5} << 59;
constexpr uint64_t kSmep = 0x10'0000, kSmap = 0x20'0000, kPke = 0x40'0000;
constexpr AddressSpace kSpace = AddressSpace::kNormal;

// Four levels at frames 1 to 4, which map address 0 onto frame 5.
class ChecksTest : public ::testing::Test {
 protected:
  static constexpr Gpa kPte{0x4000};

  void SetUp() override {
    world_.NoteSlot(Op(OpKind::kSlotCreate)
                        .Set(Field::kId, 0)
                        .Set(Field::kGfn, 0)
                        .Set(Field::kPages, 32)
                        .Set(Field::kHost, 0));
    for (uint64_t table : {1, 2, 3}) {
      Put(Gpa(table << 12), (table + 1) << 12 | kP | kW | kU | kA);
    }
    Put(kPte, 0x5000 | kP | kW | kU | kA | kD);
    Set(0x8001'0001, 0);
  }
  void Put(Gpa gpa, uint64_t value) {
    world_.NoteGuestStore(kSpace, gpa, ToBytes(value), World::By::kLibrary);
  }
  uint64_t Get(Gpa gpa) {
    return world_.memory().Read64(kSpace, gpa).value_or(~uint64_t{0});
  }
  VcpuModel& vcpu() { return world_.vcpu(0); }
  void Set(uint64_t cr0, uint64_t cr4) {
    vcpu().registers = {
        .cr0 = cr0, .cr3 = 0x1000, .cr4 = 0x20 | cr4, .efer = 0xd00};
  }

  World world_{VmShape{}};
};

// ---- World ----

TEST_F(ChecksTest, PdptesAreLoadedFromMemoryOrKept) {
  const PagingRegisters pae{.cr0 = 0x8000'0001, .cr3 = 0x6fe0, .cr4 = 0x20};
  for (uint64_t i = 0; i < 4; ++i) Put(Gpa(0x6fe0 + 8 * i), i << 12 | i % 2);
  vcpu().pdptes = {1, 0, 0, 1};
  const Pdptes loaded{0, 0x1001, 0x2000, 0x3001};
  EXPECT_EQ(*world_.PdptesFor(vcpu(), pae, true), loaded);
  EXPECT_EQ(*world_.PdptesFor(vcpu(), pae, false), vcpu().pdptes);
  EXPECT_EQ(*world_.PdptesFor(vcpu(), vcpu().registers, true), Pdptes{});
  Put(Gpa(0x6fe8), 0x1003);
  EXPECT_TRUE(
      absl::IsInvalidArgument(world_.PdptesFor(vcpu(), pae, true).status()));
}

TEST_F(ChecksTest, PdptesThatCannotBeLoaded) {
  PagingRegisters pae{.cr0 = 0x8000'0001, .cr3 = 0x2'0000, .cr4 = 0x20};
  EXPECT_TRUE(absl::IsNotFound(world_.PdptesFor(vcpu(), pae, true).status()));
  pae.cr3 = 0x6000;
  EXPECT_TRUE(world_.PdptesFor(vcpu(), pae, true).ok());
  const HvaRange hvas{HvaOfFrame(6), kPageSize};
  world_.NoteBegin(hvas);
  EXPECT_TRUE(
      absl::IsUnavailable(world_.PdptesFor(vcpu(), pae, true).status()));
  EXPECT_TRUE(world_.PdptesFor(vcpu(), pae, false).ok());
  EXPECT_TRUE(world_.NoteEnd(hvas));
  world_.NoteChange(
      Op(OpKind::kHostUnmap).Set(Field::kHost, 6).Set(Field::kPages, 1));
  EXPECT_TRUE(
      absl::IsFailedPrecondition(world_.PdptesFor(vcpu(), pae, true).status()));
}

TEST_F(ChecksTest, TheTablesOfARoot) {
  EXPECT_THAT(world_.RootTables(vcpu()), ElementsAre(Gfn(1)));
  vcpu().registers = {.cr0 = 0x8000'0001, .cr3 = 0xffff'ffff'0000'7fff};
  EXPECT_THAT(world_.RootTables(vcpu()), ElementsAre(Gfn(7)));
  vcpu().registers.cr4 = 0x20;
  vcpu().pdptes = {0x1001, 0x2000, 0, 0x3001};
  EXPECT_THAT(world_.RootTables(vcpu()), ElementsAre(Gfn(1), Gfn(3)));
  vcpu().registers = {};
  EXPECT_THAT(world_.RootTables(vcpu()), IsEmpty());
}

TEST_F(ChecksTest, BitsOfAnEntryOf4Bytes) {
  Put(Gpa(0x6ff8), 0x1111'0001'2222'0001);
  world_.NoteEntryBits(kSpace, Gpa(0x6ffc), kA | kD);
  EXPECT_EQ(Get(Gpa(0x6ff8)), 0x1111'0061'2222'0001u);
  world_.NoteEntryBits(kSpace, Gpa(0x6ff8), kA);
  EXPECT_EQ(Get(Gpa(0x6ff8)), 0x1111'0061'2222'0021u);
}

// ---- StateCheck ----

struct CachedCase {
  const char* name;
  uint64_t cr0;
  uint64_t cr4;
  uint64_t leaf;
  Rights cached;
  std::string wrong;  // what is said; empty: nothing is wrong
};

TEST_F(ChecksTest, RightsOfCachedTranslations) {
  constexpr uint64_t kWp = 0x8001'0001, kNoWp = 0x8000'0001;
  const Rights all{.key = 5};
  const Rights user_read{.writable = false, .key = 5};
  const Rights fixup{.user = false, .executable = false};
  const Rights fixup_code{.user = false};
  const Rights supervisor_read{
      .writable = false, .user = false, .executable = false};
  const std::string more = "more rights", fetch = "fetch from a user page";
  const std::string no_fixup = "no fix-up", key = "protection key";
  const CachedCase cases[] = {
      {"all", kWp, 0, kW | kU, all, ""},
      {"write", kWp, 0, kU, all, more},
      {"user", kWp, 0, kW, all, more},
      {"execute", kWp, 0, kW | kU | kNx, all, more},
      {"less", kWp, 0, kW | kU, supervisor_read, ""},
      {"fix-up with WP", kWp, 0, kU, fixup, more},
      {"fix-up", kNoWp, kSmep | kSmap | kPke, kU, fixup, ""},
      {"fix-up, code", kNoWp, 0, kU, fixup_code, ""},
      {"fix-up, code, NX", kNoWp, 0, kU | kNx, fixup_code, more},
      {"fix-up, code, SMEP", kNoWp, kSmep, kU, fixup_code, fetch},
      {"user and writable, WP clear", kNoWp, 0, kU, all, more},
      {"supervisor page, WP clear", kNoWp, 0, 0, fixup_code, ""},
      {"supervisor page, WP clear, SMEP", kNoWp, kSmep, 0, fixup_code, ""},
      {"hidden from SMAP", kWp, kSmap, kW | kU, supervisor_read, no_fixup},
      {"hidden from keys", kWp, kPke, kW | kU, supervisor_read, no_fixup},
      {"hidden from SMEP", kWp, kSmep, kW | kU, fixup_code, fetch},
      {"key", kWp, kPke, kU, user_read, ""},
      {"no key", kWp, kPke, kU, {.writable = false}, key},
      {"no key, no PKE", kWp, 0, kU, {.writable = false}, ""},
      {"key, WP clear", kNoWp, kPke, kU, {.writable = false}, key},
      {"key of a supervisor page", kWp, kPke, kW, {.user = false}, ""},
  };
  for (const CachedCase& c : cases) {
    SCOPED_TRACE(c.name);
    StateCheck check(&world_);
    Set(c.cr0, c.cr4);
    Put(kPte, 0x5000 | kP | kA | kD | kKey | c.leaf);
    const std::string said = check.CheckTlb(
        0, {{.pfn = PfnOfFrame(5), .rights = c.cached, .dirty = true}});
    if (c.wrong.empty()) {
      EXPECT_EQ(said, "");
    } else {
      EXPECT_THAT(said, HasSubstr(c.wrong));
    }
  }
}

TEST_F(ChecksTest, WhatWasGoodUnderOtherRegistersIsLookedAtAgain) {
  StateCheck check(&world_);
  Put(kPte, 0x5000 | kP | kU | kA | kD);
  const std::vector<TlbEntry> fixup = {
      {.pfn = PfnOfFrame(5), .rights = {.user = false}, .dirty = true}};
  Set(0x8000'0001, 0);
  EXPECT_EQ(check.CheckTlb(0, fixup), "");
  Set(0x8001'0001, 0);
  EXPECT_NE(check.CheckTlb(0, fixup), "");
}

// ---- AccessCheck ----

class FixupTest : public ChecksTest {
 protected:
  static constexpr uint64_t kNoWp = 0x8000'0001;

  void SetUp() override {
    ChecksTest::SetUp();
    Set(kNoWp, kSmap | kPke);
    Put(kPte, 0x5000 | kP | kU | kA | kD | kKey);
  }
  // What is wrong if the access goes through at `hpa`. A guest fault sets no
  // bit, so that the backend is asked for nothing.
  std::string Hit(const Access& access, Hpa hpa = ToHpa(PfnOfFrame(5)) + 8) {
    const AccessCheck::Case c = check_.Begin(0, Gva(8), access);
    EXPECT_EQ(c.truth.kind, OracleResult::Kind::kGuestFault);
    OpResult result;
    result.outcome = FaultOutcome{};
    result.hpa = hpa;
    return check_.CheckTouch(c, result, Allocations::kAllWell);
  }
  static Access Disabled(Access access) {
    access.eflags_ac = true;
    access.pkru = 1u << 10;  // AD of key 5
    return access;
  }

  AccessCheck check_{&world_, nullptr};
};

TEST_F(FixupTest, TheSupervisorsDataIsExcusedWithWpClear) {
  EXPECT_EQ(Hit(Read()), "");
  EXPECT_EQ(Hit(Write()), "");
  EXPECT_EQ(Hit(Disabled(Read())), "");
  Access implicit = Read(Privilege::kUser);
  implicit.implicit = Implicit::kYes;
  EXPECT_EQ(Hit(implicit), "");
  EXPECT_EQ(check_.excused(), 4u);
}

TEST_F(FixupTest, NothingElseIs) {
  EXPECT_NE(Hit(Read(), ToHpa(PfnOfFrame(6)) + 8), "") << "elsewhere";
  EXPECT_NE(Hit(Disabled(Read(Privilege::kUser))), "") << "user mode";
  EXPECT_NE(Hit(Write(Privilege::kUser)), "") << "user mode, R/W";
  Set(kNoWp, kSmep | kSmap);
  EXPECT_NE(Hit(Fetch()), "") << "a fetch";
  Set(0x8001'0001, kSmap);
  EXPECT_NE(Hit(Read()), "") << "WP set";
  EXPECT_NE(Hit(Write()), "") << "WP set, R/W";
  Set(kNoWp, kSmap);
  Put(kPte, 0x5000 | kP | kU);
  EXPECT_THAT(Hit(Read()), HasSubstr("A or D is clear"));
  Put(kPte, 0x5000 | kP | kU | kA);
  EXPECT_THAT(Hit(Write()), HasSubstr("A or D is clear"));
  EXPECT_EQ(check_.excused(), 0u);
}

TEST_F(FixupTest, TheFrameThatAnExcusedStoreChangesIsLookedAt) {
  const AccessCheck::Case c = check_.Begin(0, Gva(8), Write());
  EXPECT_THAT(check_.Frames(c), ElementsAre(1u, 2u, 3u, 4u, 5u));
}

}  // namespace
}  // namespace shadowmmu::testing
