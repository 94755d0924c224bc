// CpuModel: what SMEP, SMAP, protection keys and CR0.WP let through (SDM vol.
// 3, 4.6 and 4.7), on a walk and from the TLB.

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "tests/harness/cpu_model.h"
#include "tests/harness/test_host.h"
#include "tests/harness_test/cpu_model_accesses.h"
#include "tests/harness_test/hand_tables.h"

namespace shadowmmu::testing {
namespace {

// ---- What goes through ----

struct RightsCase {
  const char* name;
  uint64_t page;  // bits of the leaf
  uint64_t cr4;
  bool write_protect;
  Access access;
  std::optional<uint32_t> fault;  // its error code; nullopt: goes through
};
void PrintTo(const RightsCase& value, std::ostream* os) { *os << value.name; }

constexpr std::nullopt_t kGoes = std::nullopt;
constexpr uint64_t kNx = hw_entry::kNoExecute;

// These hold in long mode and with PAE paging.
const std::vector<RightsCase>& InBothModes() {
  static const auto* const kCases = new std::vector<RightsCase>{
      // SMEP.
      {"SmepDeniesSupervisorFetchOfUserPage", kUserPage, kSmep, true,
       Fetch(kSystem), kP | kI},
      {"SmepIsNotLiftedByAc", kUserPage, kSmep, true, WithAc(Fetch(kSystem)),
       kP | kI},
      {"SmepHasNoSayWithWpClear", kUserPage, kSmep, false, Fetch(kSystem),
       kP | kI},
      {"SmepLetsUserFetchUserPage", kUserPage, kSmep, true, Fetch(kUserMode),
       kGoes},
      {"SmepLetsSupervisorFetchSystemPage", 0, kSmep, true, Fetch(kSystem),
       kGoes},
      {"SmepLetsSupervisorReadUserPage", kUserPage, kSmep, true, Read(kSystem),
       kGoes},
      {"SmepLetsSupervisorWriteUserPage", kUserWritable, kSmep, true,
       Write(kSystem), kGoes},
      {"SmepLeavesNxToSystemPages", kNx, kSmep, true, Fetch(kSystem), kP | kI},
      {"WithoutSmepSupervisorFetchesUserPage", kUserPage, 0, true,
       Fetch(kSystem), kGoes},
      // SMAP.
      {"SmapDeniesSupervisorReadOfUserPage", kUserPage, kSmap, true,
       Read(kSystem), kP},
      {"SmapDeniesSupervisorWriteOfUserPage", kUserWritable, kSmap, true,
       Write(kSystem), kP | kW},
      {"SmapDeniesWriteWithWpClearToo", kUserWritable, kSmap, false,
       Write(kSystem), kP | kW},
      {"SmapIsLiftedByAcForReads", kUserPage, kSmap, true,
       WithAc(Read(kSystem)), kGoes},
      {"SmapIsLiftedByAcForWrites", kUserWritable, kSmap, true,
       WithAc(Write(kSystem)), kGoes},
      {"AcGivesNoWriteThatWpDenies", kUserPage, kSmap, true,
       WithAc(Write(kSystem)), kP | kW},
      {"AcWithWpClearWritesReadOnlyUserPage", kUserPage, kSmap, false,
       WithAc(Write(kSystem)), kGoes},
      {"SmapDeniesImplicitReadWithAc", kUserPage, kSmap, true,
       WithAc(MadeImplicit(Read(kSystem))), kP},
      {"SmapDeniesImplicitReadAtCpl3", kUserPage, kSmap, true,
       WithAc(MadeImplicit(Read(kUserMode))), kP},
      {"SmapDeniesImplicitWriteAtCpl3", kUserWritable, kSmap, true,
       MadeImplicit(Write(kUserMode)), kP | kW},
      {"SmapLetsImplicitReadOfSystemPage", 0, kSmap, true,
       MadeImplicit(Read(kUserMode)), kGoes},
      {"SmapLetsUserReadUserPage", kUserPage, kSmap, true, Read(kUserMode),
       kGoes},
      {"SmapLetsUserWriteUserPage", kUserWritable, kSmap, true,
       Write(kUserMode), kGoes},
      {"SmapLetsSupervisorReadSystemPage", 0, kSmap, true, Read(kSystem),
       kGoes},
      {"SmapLetsSupervisorFetchUserPage", kUserPage, kSmap, true,
       Fetch(kSystem), kGoes},
      {"WithoutSmapAcChangesNothing", kUserPage, 0, true, WithAc(Read(kSystem)),
       kGoes},
      {"AcGivesUserCodeNothing", 0, kSmap, true, WithAc(Read(kUserMode)),
       kP | kU},
      // WP.
      {"WpDeniesSupervisorWrite", 0, 0, true, Write(kSystem), kP | kW},
      {"WpClearLetsSupervisorWriteUserPage", kUserPage, 0, false,
       Write(kSystem), kGoes},
      {"WpClearLetsImplicitWrite", 0, 0, false, MadeImplicit(Write(kUserMode)),
       kGoes},
      {"WpClearLetsNoUserWrite", kUserPage, 0, false, Write(kUserMode),
       kP | kW | kU},
  };
  return *kCases;
}

// Protection keys: long mode only.
const std::vector<RightsCase>& InLongMode() {
  static const auto* const kCases = new std::vector<RightsCase>{
      {"AdDeniesUserRead", kUserPage | Key(5), kPke, true,
       WithPkru(Read(kUserMode), AccessDisable(5)), kP | kU | kPk},
      {"AdDeniesUserWrite", kUserWritable | Key(5), kPke, true,
       WithPkru(Write(kUserMode), AccessDisable(5)), kP | kW | kU | kPk},
      {"AdDeniesSupervisorRead", kUserPage | Key(5), kPke, true,
       WithPkru(Read(kSystem), AccessDisable(5)), kP | kPk},
      {"AdDeniesSupervisorWriteWithWpClear", kUserWritable | Key(5), kPke,
       false, WithPkru(Write(kSystem), AccessDisable(5)), kP | kW | kPk},
      {"AdDeniesImplicitRead", kUserPage | Key(5), kPke, true,
       WithPkru(MadeImplicit(Read(kUserMode)), AccessDisable(5)), kP | kPk},
      {"AdLetsFetch", kUserPage | Key(5), kPke, true,
       WithPkru(Fetch(kUserMode), AccessDisable(5) | WriteDisable(5)), kGoes},
      {"KeyIsNotBlamedForNx", kUserPage | Key(5) | kNx, kPke, true,
       WithPkru(Fetch(kUserMode), AccessDisable(5)), kP | kU | kI},
      {"WdDeniesUserWrite", kUserWritable | Key(5), kPke, true,
       WithPkru(Write(kUserMode), WriteDisable(5)), kP | kW | kU | kPk},
      {"WdDeniesUserWriteWithWpClear", kUserWritable | Key(5), kPke, false,
       WithPkru(Write(kUserMode), WriteDisable(5)), kP | kW | kU | kPk},
      {"WdDeniesSupervisorWrite", kUserWritable | Key(5), kPke, true,
       WithPkru(Write(kSystem), WriteDisable(5)), kP | kW | kPk},
      {"WdLetsSupervisorWriteWithWpClear", kUserWritable | Key(5), kPke, false,
       WithPkru(Write(kSystem), WriteDisable(5)), kGoes},
      {"WdLetsReads", kUserPage | Key(5), kPke, true,
       WithPkru(Read(kUserMode), WriteDisable(5)), kGoes},
      {"OtherKeysDoNotCount", kUserWritable | Key(5), kPke, true,
       WithPkru(Write(kUserMode), ~(AccessDisable(5) | WriteDisable(5))),
       kGoes},
      {"Key0Counts", kUserPage, kPke, true,
       WithPkru(Read(kUserMode), AccessDisable(0)), kP | kU | kPk},
      {"Key15Counts", kUserPage | Key(15), kPke, true,
       WithPkru(Read(kUserMode), AccessDisable(15)), kP | kU | kPk},
      {"SystemPagesHaveNoKey", kSystemWritable | Key(5), kPke, true,
       WithPkru(Write(kSystem), ~0u), kGoes},
      {"KeyIsNotBlamedForSystemPage", kSystemWritable | Key(5), kPke, true,
       WithPkru(Read(kUserMode), ~0u), kP | kU},
      {"WithoutPkeBits62To59AreIgnored", kUserWritable | Key(15), 0, true,
       WithPkru(Write(kUserMode), ~0u), kGoes},
      // The key is named whatever else denies.
      {"KeyIsNamedBesideReadOnly", kUserPage | Key(5), kPke, true,
       WithPkru(Write(kUserMode), WriteDisable(5)), kP | kW | kU | kPk},
      {"KeyIsNamedBesideSmap", kUserPage | Key(5), kPke | kSmap, true,
       WithPkru(Read(kSystem), AccessDisable(5)), kP | kPk},
      {"ReadOnlyIsNotTheKey", kUserPage | Key(5), kPke, true,
       WithPkru(Write(kUserMode), AccessDisable(4)), kP | kW | kU},
      {"SmapIsNotTheKey", kUserPage | Key(5), kPke | kSmap, true, Read(kSystem),
       kP},
      {"AcLiftsNoKey", kUserPage | Key(5), kPke | kSmap, true,
       WithPkru(WithAc(Read(kSystem)), AccessDisable(5)), kP | kPk},
  };
  return *kCases;
}

// With the top level of the tables and the size of the page.
struct Layout {
  Level top;
  Level page;
  Gva gva;
};

class CpuRights : public ::testing::TestWithParam<RightsCase> {
 protected:
  void Check(const Layout& layout) {
    SCOPED_TRACE(::testing::Message() << "tables from " << layout.top
                                      << ", page of " << layout.page);
    const RightsCase& c = GetParam();
    TestHost host{TestHost::Options{.frames = 8}};
    HandTables tables(&host, layout.top);
    tables.Map(layout.gva, Pfn(0x40000), layout.page, c.page);
    HardwareState state = tables.State();
    state.cr4 |= c.cr4;
    if (!c.write_protect) state.cr0 &= ~cr0::kWp;
    CpuModel cpu(&host, FullFormat());
    ASSERT_EQ(cpu.Load(state), "");

    EXPECT_EQ(cpu.Grants(layout.gva, c.access), !c.fault.has_value());
    const std::optional<TlbEntry> seen = cpu.Peek(layout.gva);
    ASSERT_TRUE(seen.has_value());
    EXPECT_EQ(cpu.Allows(seen->rights, c.access), !c.fault.has_value());

    Expect(cpu.Access(layout.gva, c.access), /*from_tlb=*/false);
    cpu.EvictAll();
    // Fills the TLB by an access that all of this lets through: what answers
    // then has to look at AC and PKRU of the access that asks.
    ASSERT_TRUE(cpu.Access(layout.gva, WithAc(Read())).hit());
    const uint64_t walks = cpu.walks();
    Expect(cpu.Access(layout.gva, c.access), /*from_tlb=*/true);
    EXPECT_EQ(cpu.walks(), walks);
  }

 private:
  void Expect(const CpuResult& result, bool from_tlb) {
    const std::optional<uint32_t> fault = GetParam().fault;
    if (fault.has_value()) {
      ASSERT_EQ(result.kind, CpuResult::Kind::kPageFault) << result;
      EXPECT_EQ(result.error_code, *fault);
    } else {
      ASSERT_TRUE(result.hit()) << result;
      EXPECT_EQ(result.from_tlb, from_tlb);
    }
  }
};

std::string NameOf(const ::testing::TestParamInfo<RightsCase>& info) {
  return info.param.name;
}

class CpuRightsInBothModes : public CpuRights {};
TEST_P(CpuRightsInBothModes, AreAsTheManualSays) {
  Check({Level::k512G, Level::k4K, Gva(0x7f12'3456'7000)});
  Check({Level::k512G, Level::k2M, Gva(0x7f12'3440'0000)});
  Check({Level::k512G, Level::k1G, Gva(0x7f00'0000'0000)});
  Check({Level::k256T, Level::k4K, Gva(0x00ab'cdef'0123'4000)});
  Check({Level::k1G, Level::k4K, Gva(0xc123'4000)});
  Check({Level::k1G, Level::k2M, Gva(0xc120'0000)});
}
INSTANTIATE_TEST_SUITE_P(All, CpuRightsInBothModes,
                         ::testing::ValuesIn(InBothModes()), NameOf);

class CpuRightsInLongMode : public CpuRights {};
TEST_P(CpuRightsInLongMode, AreAsTheManualSays) {
  Check({Level::k512G, Level::k4K, Gva(0x7f12'3456'7000)});
  Check({Level::k512G, Level::k2M, Gva(0x7f12'3440'0000)});
  Check({Level::k512G, Level::k1G, Gva(0x7f00'0000'0000)});
  Check({Level::k256T, Level::k4K, Gva(0x00ab'cdef'0123'4000)});
}
INSTANTIATE_TEST_SUITE_P(All, CpuRightsInLongMode,
                         ::testing::ValuesIn(InLongMode()), NameOf);

}  // namespace
}  // namespace shadowmmu::testing
