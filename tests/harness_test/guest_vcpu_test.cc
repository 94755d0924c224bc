// GuestVcpu, and with it the whole path: guest tables, library, CPU, memory.

#include "tests/harness/guest_vcpu.h"

#include <gtest/gtest.h>

#include <memory>
#include <utility>
#include <vector>

#include "shadowmmu/mmu.h"
#include "tests/harness/guest_tables.h"
#include "tests/harness/oracle.h"
#include "tests/harness/test_host.h"

namespace shadowmmu::testing {
namespace {

constexpr Hva kHva{0x5000'0000};
constexpr Gva kGva{0x0000'55b3'4243'4000};
constexpr Gfn kPage{5};
constexpr uint64_t kUserWritable = gpte::kUser | gpte::kWritable;

// Kicks the vCPU while it enters, when told to.
class KickingHost : public TestHost {
 public:
  using TestHost::TestHost;
  void FlushTlb(const VcpuSet& set, FlushRange range) override {
    TestHost::FlushTlb(set, range);
    if (std::exchange(kick_at_next_flush, false)) Kick(set);
  }
  bool kick_at_next_flush = false;
};

class GuestVcpuTest : public ::testing::Test {
 protected:
  void SetUp() override {
    host_.MapRange(kHva, 64, Frame{0});
    MmuConfig config;
    config.host = &host_;
    config.table_capacity = 64;
    config.max_vcpus = 1;
    mmu_ = *Mmu::Create(config);
    SlotSpec slot;
    slot.pages = 64;
    slot.hva = kHva;
    ASSERT_TRUE(mmu_->CreateSlot(slot).ok());
    memory_.AddSlot(slot);
    vcpu_mmu_ = *mmu_->CreateVcpu(VcpuId{0});
    cpu_.emplace(&host_, host_.Format());
    host_.Attach(VcpuId{0}, &*cpu_);
    vcpu_.emplace(&*vcpu_mmu_, &*cpu_);
    tables_.emplace(&memory_, &untracked_, GfnRange{Gfn(16), 16});
    ASSERT_TRUE(
        tables_->Map(kGva, ToGpa(kPage), Level::k4K, kUserWritable).ok());
  }
  void TearDown() override { host_.Detach(VcpuId{0}); }

  void EnterLongMode() {
    PagingRegisters registers;
    registers.cr0 = cr0::kPe | cr0::kPg | cr0::kWp;
    registers.cr3 = tables_->root().value();
    registers.cr4 = cr4::kPae;
    registers.efer = efer::kLme | efer::kLma | efer::kNxe;
    ASSERT_TRUE(vcpu_mmu_->SetRegisters(registers).ok());
  }
  static Hpa HpaOf(Gfn gfn) { return ToHpa(kFirstFramePfn + gfn.value()); }

  KickingHost host_{TestHost::Options{.frames = 64}};
  GuestMemory memory_{&host_};
  UntrackedStore untracked_{&memory_};
  std::unique_ptr<Mmu> mmu_;
  std::unique_ptr<VcpuMmu> vcpu_mmu_;
  std::optional<CpuModel> cpu_;
  std::optional<GuestVcpu> vcpu_;
  std::optional<GuestTableBuilder> tables_;
};

TEST_F(GuestVcpuTest, WithPagingOffAGvaIsAGpaBehindPaeTables) {
  const TouchResult touched = vcpu_->Touch(Gva(0x5123), Write());
  ASSERT_TRUE(touched.hit()) << touched;
  EXPECT_EQ(touched.hpa, HpaOf(kPage) + 0x123);
  EXPECT_FALSE(vcpu_mmu_->HardwareState().efer & efer::kLma);
  EXPECT_LT(vcpu_mmu_->HardwareState().root.value(), uint64_t{1} << 32);
}

TEST_F(GuestVcpuTest, ATouchFaultsOnceAndThenHitsWithoutFaults) {
  EnterLongMode();
  const TouchResult first = vcpu_->Touch(kGva, Write(Privilege::kUser));
  ASSERT_TRUE(first.hit()) << first;
  EXPECT_EQ(first.hpa, HpaOf(kPage));
  EXPECT_EQ(first.faults, 1u);
  const TouchResult second = vcpu_->Touch(kGva, Write(Privilege::kUser));
  EXPECT_EQ(second.faults, 0u);
  EXPECT_TRUE(second.from_tlb);
  EXPECT_EQ(vcpu_->counts().touches, 2u);
  EXPECT_EQ(vcpu_->counts().faults, 1u);
  EXPECT_EQ(vcpu_->counts().entries, 3u);
}

TEST_F(GuestVcpuTest, TheBodyReachesTheGuestsMemory) {
  EnterLongMode();
  uint64_t value = 0x1234'5678;
  ASSERT_TRUE(vcpu_
                  ->Touch(kGva + 8, Write(),
                          [&](Hpa hpa) {
                            host_.WritePhysical(
                                hpa, std::as_bytes(std::span(&value, 1)));
                          })
                  .hit());
  EXPECT_EQ(memory_.Read64(AddressSpace::kNormal, ToGpa(kPage) + 8), value);
}

TEST_F(GuestVcpuTest, AGuestFaultIsTheOutcomeThatTheOracleGives) {
  EnterLongMode();
  const Gva nothing = kGva + kPageSize;
  std::vector<FaultOutcome::Kind> seen;
  vcpu_->SetOutcomeHook([&seen](Gva, const FaultOutcome& outcome) {
    seen.push_back(outcome.kind);
  });
  const TouchResult touched = vcpu_->Touch(nothing, Fetch(Privilege::kUser));
  ASSERT_TRUE(touched.EndedAs(FaultOutcome::Kind::kGuestFault)) << touched;
  const OracleResult expected =
      Oracle(&memory_, 48)
          .Translate({.registers = vcpu_mmu_->registers()},
                     AddressSpace::kNormal, nothing, Fetch(Privilege::kUser));
  EXPECT_EQ(touched.outcome.guest_fault, expected.fault);
  EXPECT_EQ(seen, std::vector{FaultOutcome::Kind::kGuestFault});
}

TEST_F(GuestVcpuTest, AnAddressThatIsNotCanonicalNeverReachesTheLibrary) {
  EnterLongMode();
  const TouchResult touched =
      vcpu_->Touch(Gva(0x0000'8000'0000'0000), Read(Privilege::kUser));
  ASSERT_TRUE(touched.EndedAs(FaultOutcome::Kind::kGuestFault)) << touched;
  EXPECT_EQ(touched.outcome.guest_fault.vector,
            GuestFault::Vector::kGeneralProtection);
  EXPECT_EQ(vcpu_->counts().faults, 0u);
}

TEST_F(GuestVcpuTest, ACr3OutsideTheSlotsIsAMemoryFault) {
  EnterLongMode();
  PagingRegisters registers = vcpu_mmu_->registers();
  registers.cr3 = 0x1234'5000;
  ASSERT_TRUE(vcpu_mmu_->SetRegisters(registers).ok());
  const TouchResult touched = vcpu_->Touch(kGva, Read());
  EXPECT_TRUE(touched.EndedAs(FaultOutcome::Kind::kMemoryFault)) << touched;
}

TEST_F(GuestVcpuTest, AnUnmappedHvaIsAMemoryFaultAndLeavesNothingBehind) {
  EnterLongMode();
  const Hva hva = kHva + kPage.value() * kPageSize;
  ASSERT_TRUE(vcpu_->Touch(kGva, Read()).hit());
  ASSERT_TRUE(mmu_->InvalidateBegin({hva, kPageSize}).ok());
  host_.Unmap(hva);
  ASSERT_TRUE(mmu_->InvalidateEnd({hva, kPageSize}).ok());
  const TouchResult touched = vcpu_->Touch(kGva, Read());
  EXPECT_TRUE(touched.EndedAs(FaultOutcome::Kind::kMemoryFault)) << touched;
  for (const TlbEntry& entry : cpu_->TlbEntries()) {
    EXPECT_NE(entry.pfn, kFirstFramePfn + kPage.value()) << entry;
  }
}

TEST_F(GuestVcpuTest, AFlushThatTheHostLosesLetsTheGuestUseTheOldPage) {
  EnterLongMode();
  const Hva hva = kHva + kPage.value() * kPageSize;
  ASSERT_TRUE(vcpu_->Touch(kGva, Read()).hit());
  host_.SetFlushDelivery(Delivery::kLose);
  ASSERT_TRUE(mmu_->InvalidateBegin({hva, kPageSize}).ok());
  host_.Retarget(hva, Frame{63});
  ASSERT_TRUE(mmu_->InvalidateEnd({hva, kPageSize}).ok());
  EXPECT_EQ(vcpu_->Touch(kGva, Read()).hpa, HpaOf(kPage)) << "the stale one";
  host_.SetFlushDelivery(Delivery::kDeliver);
  cpu_->EvictAll();
  EXPECT_EQ(vcpu_->Touch(kGva, Read()).hpa, ToHpa(ToPfn(Frame{63})));
}

TEST_F(GuestVcpuTest, AKickThatComesDuringTheEntryMakesItEnterAgain) {
  EnterLongMode();
  ASSERT_TRUE(vcpu_->Touch(kGva, Read()).hit());
  EnterLongMode();  // leaves a flush to be paid at the next entry
  host_.kick_at_next_flush = true;
  const uint64_t entries = vcpu_->counts().entries;
  ASSERT_TRUE(vcpu_->Touch(kGva, Read()).hit());
  EXPECT_FALSE(host_.kick_at_next_flush) << "the entry flushed nothing";
  EXPECT_EQ(vcpu_->counts().kicks, 1u);
  EXPECT_EQ(vcpu_->counts().entries, entries + 2);
}

TEST_F(GuestVcpuTest, AKickOutsideTheGuestCostsNoEntry) {
  EnterLongMode();
  host_.Kick(VcpuSet::Of(VcpuId{0}));
  ASSERT_TRUE(vcpu_->Touch(kGva, Read()).hit());
  EXPECT_EQ(vcpu_->counts().kicks, 0u);
}

TEST_F(GuestVcpuTest, AnInvalidationInTheMiddleOfAFaultIsNotMappedOver) {
  EnterLongMode();
  const HvaRange page{kHva + kPage.value() * kPageSize, kPageSize};
  int times = 0;
  host_.SetResolveHook([&](Hva hva, AccessType) {
    if (!page.Contains(hva) || times++ != 0) return;
    ASSERT_TRUE(mmu_->InvalidateBegin(page).ok());
    host_.Retarget(hva, Frame{63});
    ASSERT_TRUE(mmu_->InvalidateEnd(page).ok());
  });
  EXPECT_EQ(vcpu_->Touch(kGva, Read()).hpa, ToHpa(ToPfn(Frame{63})));
  EXPECT_EQ(times, 2) << "the first answer was stale";
}

TEST_F(GuestVcpuTest, ATouchThatNeverEndsSaysSo) {
  EnterLongMode();
  const HvaRange page{kHva + kPage.value() * kPageSize, kPageSize};
  host_.SetResolveHook([&](Hva, AccessType) {
    ASSERT_TRUE(mmu_->InvalidateBegin(page).ok());
    ASSERT_TRUE(mmu_->InvalidateEnd(page).ok());
  });
  const TouchResult touched = vcpu_->Touch(kGva, Read());
  EXPECT_EQ(touched.kind, TouchResult::Kind::kDidNotConverge) << touched;
  EXPECT_EQ(touched.faults, GuestVcpu::kMaxRounds);
  EXPECT_EQ(touched.outcome.kind, FaultOutcome::Kind::kRetry);
}

TEST_F(GuestVcpuTest, TablesAreBuiltThroughTheLibraryTheSame) {
  TrackedStore tracked(mmu_.get());
  tables_->SetStore(&tracked);
  EnterLongMode();
  ASSERT_TRUE(vcpu_->Touch(kGva, Read()).hit());
  ASSERT_TRUE(tables_->Map(kGva, Gpa(0x7000), Level::k4K, kUserWritable).ok());
  vcpu_mmu_->Invlpg(kGva);
  EXPECT_EQ(vcpu_->Touch(kGva, Read()).hpa, HpaOf(Gfn(7)));
}

}  // namespace
}  // namespace shadowmmu::testing
