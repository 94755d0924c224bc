// Oracle: who may do what to a page, and the error code of who may not: CR0.WP,
// SMEP, SMAP, protection keys (SDM vol. 3, 4.6, 4.7).

#include <gtest/gtest.h>

#include <optional>

#include "tests/harness/oracle.h"
#include "tests/harness_test/oracle_vm.h"

namespace shadowmmu::testing {
namespace {

constexpr uint64_t kPse = 0x10;
constexpr uint64_t kSmep = 0x10'0000, kSmap = 0x20'0000, kPke = 0x40'0000;

// Of the page's key, 5.
constexpr uint32_t kAccessDisable = 1u << 10;
constexpr uint32_t kWriteDisable = 1u << 11;

enum class Wp : uint8_t { kClear, kSet };
using Denied = OracleResult::Denied;
constexpr Denied kNone{};
constexpr Denied kRights{.rights = true};
constexpr Denied kBySmap{.smap = true};
constexpr Denied kByKey{.key = true};

constexpr Access Ac(Access access) {
  access.eflags_ac = true;
  return access;
}
constexpr Access Implicitly(Access access) {
  access.implicit = Implicit::kYes;
  return access;
}
constexpr Access With(uint32_t pkru, Access access) {
  access.pkru = pkru;
  return access;
}

struct RightsCase {
  const char* name;
  Wp wp;
  uint64_t cr4;   // beside PAE
  uint64_t leaf;  // W, U, NX of the page's entry
  Access access;
  Denied denied;
  uint32_t code = 0;  // of the fault, if it is denied
};

class OracleRightsTest : public FourLevelVm {
 protected:
  static constexpr uint64_t kKey = uint64_t{5} << 59;

  void Run(const RightsCase& c) {
    SCOPED_TRACE(c.name);
    cpu_.registers.cr0 = c.wp == Wp::kSet ? 0x8001'0001 : 0x8000'0001;
    cpu_.registers.cr4 = 0x20 | c.cr4;
    Put(kPte, 0x5000 | kP | kKey | c.leaf);
    Check(c, kGva, Gpa(0x5000));
  }
  void Check(const RightsCase& c, Gva gva, Gpa page) {
    const OracleResult result = Translate(c.access, gva);
    EXPECT_EQ(result.page, page);
    EXPECT_EQ(result.denied, c.denied);
    if (c.denied.any()) {
      EXPECT_EQ(FaultCode(c.access, gva), c.code);
    } else {
      EXPECT_EQ(Target(c.access, gva), page);
    }
    // What other walks found judges it just so, denied ones included.
    for (const Access& other : {Ac(Read()), kUserWrite, With(~0u, Write())}) {
      const OracleResult walk = Translate(other, gva);
      EXPECT_EQ(Oracle::Allows(cpu_, walk, c.access), !c.denied.any());
      EXPECT_EQ(Oracle::Judge(cpu_, walk, c.access), c.denied);
    }
  }
};

TEST_F(OracleRightsTest, WriteProtect) {
  const RightsCase cases[] = {
      {"supervisor, user page", Wp::kSet, 0, kU, Write(), kRights, 3},
      {"supervisor, its page", Wp::kSet, 0, 0, Write(), kRights, 3},
      {"user", Wp::kSet, 0, kU, kUserWrite, kRights, 7},
      {"implicit", Wp::kSet, 0, 0, Implicitly(kUserWrite), kRights, 3},
      {"WP clear, supervisor, user page", Wp::kClear, 0, kU, Write(), kNone},
      {"WP clear, supervisor, its page", Wp::kClear, 0, 0, Write(), kNone},
      {"WP clear, user", Wp::kClear, 0, kU, kUserWrite, kRights, 7},
      {"WP clear, user, supervisor page", Wp::kClear, 0, kW, kUserWrite,
       kRights, 7},
      {"WP clear, implicit", Wp::kClear, 0, kU, Implicitly(kUserWrite), kNone},
      {"WP clear, fetch, NX", Wp::kClear, 0, kNx, Fetch(), kRights, 0x11},
      {"reads need no W", Wp::kSet, 0, kU, kUserRead, kNone},
  };
  for (const RightsCase& c : cases) Run(c);
}

TEST_F(OracleRightsTest, Smep) {
  const RightsCase cases[] = {
      {"supervisor, user page", Wp::kSet, kSmep, kU, Fetch(), kRights, 0x11},
      {"WP clear", Wp::kClear, kSmep, kU | kW, Fetch(), kRights, 0x11},
      {"AC does not matter", Wp::kSet, kSmep, kU, Ac(Fetch()), kRights, 0x11},
      {"supervisor page", Wp::kSet, kSmep, 0, Fetch(), kNone},
      {"user", Wp::kSet, kSmep, kU, kUserFetch, kNone},
      {"user, supervisor page", Wp::kSet, kSmep, 0, kUserFetch, kRights, 0x15},
      {"data", Wp::kSet, kSmep, kU | kW, Write(), kNone},
      {"without it", Wp::kSet, 0, kU, Fetch(), kNone},
  };
  for (const RightsCase& c : cases) Run(c);
}

TEST_F(OracleRightsTest, Smap) {
  const Access implicit_user = Implicitly(kUserRead);
  const RightsCase cases[] = {
      {"read", Wp::kSet, kSmap, kU | kW, Read(), kBySmap, 1},
      {"write", Wp::kSet, kSmap, kU | kW, Write(), kBySmap, 3},
      {"AC, read", Wp::kSet, kSmap, kU | kW, Ac(Read()), kNone},
      {"AC, write", Wp::kSet, kSmap, kU | kW, Ac(Write()), kNone},
      {"AC, write, read-only", Wp::kSet, kSmap, kU, Ac(Write()), kRights, 3},
      {"AC, WP clear", Wp::kClear, kSmap, kU, Ac(Write()), kNone},
      {"WP clear", Wp::kClear, kSmap, kU, Write(), kBySmap, 3},
      {"both", Wp::kSet, kSmap, kU, Write(), {.rights = true, .smap = true}, 3},
      {"implicit, CPL 3", Wp::kSet, kSmap, kU, implicit_user, kBySmap, 1},
      {"implicit, CPL 3, AC", Wp::kSet, kSmap, kU, Ac(implicit_user), kBySmap,
       1},
      {"implicit, AC", Wp::kSet, kSmap, kU, Ac(Implicitly(Read())), kBySmap, 1},
      {"implicit, supervisor page", Wp::kSet, kSmap, 0, implicit_user, kNone},
      {"supervisor page", Wp::kSet, kSmap, kW, Write(), kNone},
      {"user", Wp::kSet, kSmap, kU | kW, kUserWrite, kNone},
      {"fetch", Wp::kSet, kSmap, kU, Fetch(), kNone},
      {"without it, implicit", Wp::kSet, 0, kU, implicit_user, kNone},
  };
  for (const RightsCase& c : cases) Run(c);
}

TEST_F(OracleRightsTest, ProtectionKeys) {
  constexpr uint32_t kAd = kAccessDisable;
  constexpr uint32_t kWd = kWriteDisable;
  const Access read = Read(), write = Write();
  const RightsCase cases[] = {
      {"AD, user read", Wp::kSet, kPke, kU | kW, With(kAd, kUserRead), kByKey,
       0x25},
      {"AD, user write", Wp::kSet, kPke, kU | kW, With(kAd, kUserWrite), kByKey,
       0x27},
      {"AD, supervisor read", Wp::kSet, kPke, kU, With(kAd, read), kByKey,
       0x21},
      {"AD, WP clear", Wp::kClear, kPke, kU, With(kAd, read), kByKey, 0x21},
      {"AD, WP clear, write", Wp::kClear, kPke, kU, With(kAd, write), kByKey,
       0x23},
      {"AD, implicit", Wp::kSet, kPke, kU, With(kAd, Implicitly(kUserRead)),
       kByKey, 0x21},
      {"AD, supervisor page", Wp::kSet, kPke, kW, With(~0u, write), kNone},
      {"AD, user fetch", Wp::kSet, kPke, kU, With(~0u, kUserFetch), kNone},
      {"AD, supervisor fetch", Wp::kSet, kPke, kU, With(~0u, Fetch()), kNone},
      {"WD, user read", Wp::kSet, kPke, kU, With(kWd, kUserRead), kNone},
      {"WD, user write", Wp::kSet, kPke, kU | kW, With(kWd, kUserWrite), kByKey,
       0x27},
      {"WD, user write, WP clear", Wp::kClear, kPke, kU | kW,
       With(kWd, kUserWrite), kByKey, 0x27},
      {"WD, supervisor write", Wp::kSet, kPke, kU | kW, With(kWd, write),
       kByKey, 0x23},
      {"WD, supervisor write, WP clear", Wp::kClear, kPke, kU | kW,
       With(kWd, write), kNone},
      {"other keys", Wp::kSet, kPke, kU | kW, With(~(kAd | kWd), kUserWrite),
       kNone},
      {"without PKE", Wp::kSet, 0, kU | kW, With(~0u, kUserWrite), kNone},
      // PK says what the key does, whatever else denies the access.
      {"and W",
       Wp::kSet,
       kPke,
       kU,
       With(kWd, kUserWrite),
       {.rights = true, .key = true},
       0x27},
      {"and SMAP",
       Wp::kSet,
       kPke | kSmap,
       kU,
       With(kAd, read),
       {.smap = true, .key = true},
       0x21},
      {"SMAP alone", Wp::kSet, kPke | kSmap, kU, read, kBySmap, 1},
      {"key alone", Wp::kSet, kPke | kSmap, kU, With(kAd, Ac(read)), kByKey,
       0x21},
      // A supervisor page has no key to deny it.
      {"U alone", Wp::kSet, kPke, 0, With(~0u, kUserRead), kRights, 5},
  };
  for (const RightsCase& c : cases) Run(c);
}

TEST_F(OracleRightsTest, PkNeedsAWalkThatCompleted) {
  cpu_.registers.cr4 |= kPke;
  const Access access = With(~0u, kUserRead);
  Put(kPte, 0x5000 | kU | kKey);
  EXPECT_EQ(FaultCode(access), 4u);
  Put(kPte, 0x5000 | kP | kU | kKey | Bit(45));
  EXPECT_EQ(FaultCode(access), 0xdu);
  Put(kPte, 0x5000 | kP | kU | kKey);
  EXPECT_EQ(FaultCode(access), 0x25u);
}

TEST_F(OracleRightsTest, OutsideLongModeThereIsAllButKeys) {
  // A page of 4 MiB at 0, by the directory's entry 0, read-only, of the user.
  Put(Gpa(0x1000), kP | kU | kPs);
  const auto run = [this](const RightsCase& c) {
    SCOPED_TRACE(c.name);
    cpu_.registers = {.cr0 = c.wp == Wp::kSet ? 0x8001'0001u : 0x8000'0001u,
                      .cr3 = 0x1000,
                      .cr4 = kPse | c.cr4};
    Check(c, Gva(0x1234), Gpa(0x1234));
  };
  run({"WP", Wp::kSet, 0, 0, Write(), kRights, 3});
  run({"WP clear", Wp::kClear, 0, 0, Write(), kNone});
  run({"SMEP", Wp::kSet, kSmep, 0, Fetch(), kRights, 0x11});
  run({"SMEP, user", Wp::kSet, kSmep, 0, kUserFetch, kNone});
  run({"SMAP", Wp::kSet, kSmap, 0, Read(), kBySmap, 1});
  run({"SMAP, AC", Wp::kSet, kSmap, 0, Ac(Read()), kNone});
  run({"PKE", Wp::kSet, kPke, 0, With(~0u, kUserRead), kNone});
}

TEST_F(OracleRightsTest, WithPagingOffThereIsNothingToDeny) {
  cpu_.registers = {.cr0 = 0x1'0001, .cr4 = kSmep | kSmap | kPke};
  for (const Access& access :
       {Read(), kUserWrite, Fetch(), Implicitly(kUserRead)}) {
    EXPECT_EQ(Target(With(~0u, access), Gva(0x5000)), Gpa(0x5000));
  }
}

}  // namespace
}  // namespace shadowmmu::testing
