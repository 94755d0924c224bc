// Walks over much memory let in whoever waits for the MMU lock: how long they
// hold it at a time does not depend on how much memory there is. Each test goes
// on until that was seen, or until its time is over.

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>

#include "shadowmmu/audit.h"
#include "shadowmmu/default_host.h"
#include "shadowmmu/mmu.h"
#include "shadowmmu/vcpu_mmu.h"
#include "tests/harness/guest_vcpu.h"

namespace shadowmmu::testing {
namespace {

// More than one step of any walk.
constexpr uint64_t kPages = 3 * 4096;
constexpr SlotSpec kSlot{.id = SlotId{0},
                         .base = Gfn(0),
                         .pages = kPages,
                         .hva = Hva(uint64_t{1} << 32)};
// Far above, and memory that the first has, too.
constexpr SlotSpec kAlias{.id = SlotId{1},
                          .base = Gfn(1 << 19),
                          .pages = 16,
                          .hva = Hva((uint64_t{1} << 32) + 8192 * kPageSize)};

class LockBreaks : public ::testing::Test {
 protected:
  LockBreaks() {
    auto mmu = Mmu::Create({.host = &host_,
                            .table_capacity = 256,
                            .max_vcpus = 1,
                            .largest_page = Level::k4K});
    EXPECT_TRUE(mmu.ok()) << mmu.status();
    mmu_ = *std::move(mmu);
    for (const SlotSpec& slot : {kSlot, kAlias}) {
      EXPECT_TRUE(mmu_->CreateSlot(slot).ok());
    }
    vcpu_ = *mmu_->CreateVcpu(VcpuId{0});
  }

  void MapAll() {
    for (const SlotSpec& slot : {kSlot, kAlias}) {
      for (uint64_t i = 0; i < slot.pages; ++i) {
        const Gva gva(ToGpa(slot.base + i).value());
        ASSERT_TRUE(vcpu_->HandleFault(gva, Write()).resume());
      }
    }
  }

  // Maps everything, and walks, until a walk has let somebody in.
  template <typename Walk>
  void UntilABreak(Walk walk) {
    std::atomic<bool> done{false};
    std::thread other([&] {
      while (!done) mmu_->generation();
    });
    while (mmu_->GetStats().lock_breaks == 0) {
      ASSERT_NO_FATAL_FAILURE(MapAll());
      walk();
    }
    done = true;
    other.join();
    const AuditReport report = Audit(*mmu_);
    EXPECT_TRUE(report.ok()) << report;
  }

  DefaultHost host_;
  std::unique_ptr<Mmu> mmu_;
  std::unique_ptr<VcpuMmu> vcpu_;
};

TEST_F(LockBreaks, OfANotifierThatTakesMuchAway) {
  // From before the first slot to after the last.
  constexpr HvaRange kAll{Hva(kPageSize), uint64_t{1} << 47};
  UntilABreak([&] {
    ASSERT_TRUE(mmu_->InvalidateBegin(kAll).ok());
    EXPECT_EQ(mmu_->GetStats().leaf_sptes, 0u);
    ASSERT_TRUE(mmu_->InvalidateEnd(kAll).ok());
  });
}

TEST_F(LockBreaks, OfANotifierLeaveAloneWhatIsOutsideItsRange) {
  const HvaRange inner{kSlot.hva + kPageSize, (kPages - 2) * kPageSize};
  UntilABreak([&] {
    ASSERT_TRUE(mmu_->InvalidateBegin(inner).ok());
    EXPECT_EQ(mmu_->GetStats().leaf_sptes, 2u) << "the first and the last page";
    ASSERT_TRUE(mmu_->InvalidateEnd(inner).ok());
  });
}

TEST_F(LockBreaks, OfASlotThatBecomesReadOnly) {
  UntilABreak([&] {
    const auto set = [&](SlotFlags flags) {
      return mmu_->SetSlotFlags(AddressSpace::kNormal, kSlot.id, flags);
    };
    ASSERT_TRUE(set(SlotFlags::kReadOnly).ok());
    const Gva last(ToGpa(Gfn(kPages - 1)).value());
    EXPECT_EQ(vcpu_->HandleFault(last, Write()).kind,
              FaultOutcome::Kind::kEmulate);
    ASSERT_TRUE(set(SlotFlags::kNone).ok());
  });
}

}  // namespace
}  // namespace shadowmmu::testing
