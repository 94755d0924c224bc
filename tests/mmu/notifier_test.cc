// Notifiers, and faults that meet them half-way.

#include <gtest/gtest.h>

#include "src/mmu/vm.h"
#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {
namespace {

using Kind = FaultOutcome::Kind;

constexpr AddressSpace kNormal = AddressSpace::kNormal;

// A guest with paging off: gva is gpa.
class Notifier : public ::testing::Test {
 protected:
  Notifier() {
    slot_ = vm_.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = 1024});
    cpu_ = &vm_.AddVcpu();
  }
  ~Notifier() override { EXPECT_EQ(vm_.Violations(), ""); }

  HvaRange Page(uint64_t page, uint64_t pages = 1) const {
    return {slot_.hva + page * kPageSize, pages * kPageSize};
  }
  Gva At(uint64_t page) const { return Gva(page * kPageSize); }
  void TouchPages(uint64_t pages) {
    for (uint64_t i = 0; i < pages; ++i) {
      ASSERT_TRUE(cpu_->Touch(At(i), Write()).hit());
    }
  }

  SmallVm vm_;
  SlotSpec slot_;
  GuestVcpu* cpu_ = nullptr;
};

TEST_F(Notifier, BeginUnmapsTheRangeAndNothingElse) {
  TouchPages(8);
  ASSERT_TRUE(vm_.mmu().InvalidateBegin(Page(2, 3)).ok());
  for (uint64_t i = 0; i < 8; ++i) {
    EXPECT_EQ(vm_.RmapLength(Gfn(i)), i >= 2 && i < 5 ? 0u : 1u) << i;
  }
  ASSERT_TRUE(vm_.mmu().InvalidateEnd(Page(2, 3)).ok());
}

TEST_F(Notifier, NoCpuUsesAnOldTranslationAfterBegin) {
  TouchPages(1);
  ASSERT_TRUE(cpu_->Touch(At(0), Read()).from_tlb);
  // The vCPU sits in the guest: the flush must reach it there.
  ASSERT_TRUE(cpu_->mmu().EnterGuest().resume());
  ASSERT_TRUE(vm_.mmu().InvalidateBegin(Page(0)).ok());
  EXPECT_TRUE(cpu_->cpu().TlbEntries().empty());
  cpu_->mmu().ExitGuest();
  ASSERT_TRUE(vm_.mmu().InvalidateEnd(Page(0)).ok());
}

TEST_F(Notifier, FaultsRetryWhileTheRangeIsChangingAndFindWhatIsThereAfter) {
  ASSERT_TRUE(vm_.mmu().InvalidateBegin(Page(0)).ok());
  EXPECT_EQ(cpu_->mmu().HandleFault(At(0), Write()).kind, Kind::kRetry);
  EXPECT_TRUE(cpu_->Touch(At(1), Write()).hit()) << "not in the range";
  vm_.host().Retarget(slot_.hva, Frame{3000});
  ASSERT_TRUE(vm_.mmu().InvalidateEnd(Page(0)).ok());
  const TouchResult touched = cpu_->Touch(At(0), Write());
  ASSERT_TRUE(touched.hit());
  EXPECT_EQ(ToPfn(touched.hpa), ToPfn(Frame{3000}));
}

TEST_F(Notifier, NestedRangesBlockUntilTheLastEnd) {
  ASSERT_TRUE(vm_.mmu().InvalidateBegin(Page(0, 4)).ok());
  ASSERT_TRUE(vm_.mmu().InvalidateBegin(Page(2, 4)).ok());
  ASSERT_TRUE(vm_.mmu().InvalidateEnd(Page(0, 4)).ok());
  EXPECT_TRUE(cpu_->Touch(At(1), Write()).hit());
  EXPECT_EQ(cpu_->mmu().HandleFault(At(3), Write()).kind, Kind::kRetry);
  ASSERT_TRUE(vm_.mmu().InvalidateEnd(Page(2, 4)).ok());
  EXPECT_TRUE(cpu_->Touch(At(3), Write()).hit());
}

TEST_F(Notifier, BadRangesAreRefused) {
  const HvaRange empty{slot_.hva, 0};
  const HvaRange wraps{Hva(~uint64_t{0} - 100), 4096};
  EXPECT_FALSE(vm_.mmu().InvalidateBegin(empty).ok());
  EXPECT_FALSE(vm_.mmu().InvalidateBegin(wraps).ok());
  EXPECT_FALSE(vm_.mmu().InvalidateEnd(Page(0)).ok()) << "never begun";
}

// The fault resolved the page; before it has the lock, the host changes it. The
// pfn that it holds must not be mapped.
TEST_F(Notifier, AFaultThatResolvedBeforeTheChangeStartsOver) {
  bool changed = false;
  vm_.host().SetResolveHook([&](Hva, AccessType) {
    if (changed) return;
    changed = true;
    ASSERT_TRUE(vm_.mmu().InvalidateBegin(Page(0)).ok());
    vm_.host().Retarget(slot_.hva, Frame{3000});
    ASSERT_TRUE(vm_.mmu().InvalidateEnd(Page(0)).ok());
  });
  const TouchResult touched = cpu_->Touch(At(0), Write());
  ASSERT_TRUE(touched.hit()) << touched;
  EXPECT_TRUE(changed);
  EXPECT_EQ(ToPfn(touched.hpa), ToPfn(Frame{3000}));
  EXPECT_GE(vm_.mmu().GetStats().fault_retries, 1u);
}

// The same, and the change is not over when the fault has the lock.
TEST_F(Notifier, AFaultThatResolvedBeforeABeginMapsNothingBeforeTheEnd) {
  bool begun = false;
  vm_.host().SetResolveHook([&](Hva, AccessType) {
    if (begun) return;
    begun = true;
    ASSERT_TRUE(vm_.mmu().InvalidateBegin(Page(0)).ok());
  });
  EXPECT_EQ(cpu_->mmu().HandleFault(At(0), Write()).kind, Kind::kRetry);
  EXPECT_TRUE(begun);
  EXPECT_EQ(vm_.RmapLength(Gfn(0)), 0u);
  ASSERT_TRUE(vm_.mmu().InvalidateEnd(Page(0)).ok());
  EXPECT_TRUE(cpu_->Touch(At(0), Write()).hit());
}

// Bug 14 of KVM's: the sequence crossed 2^31 and was compared as if signed.
TEST_F(Notifier, TheSequenceWorksAcrossEveryBoundary) {
  for (const uint64_t start :
       {uint64_t{0x7fff'ffff}, uint64_t{0xffff'ffff}, ~uint64_t{0} - 1}) {
    vm_.mmu().internals().memory.SetSequenceForTesting(start);
    bool changed = false;
    vm_.host().SetResolveHook([&](Hva, AccessType) {
      if (changed) return;
      changed = true;
      ASSERT_TRUE(vm_.mmu().InvalidateBegin(Page(0)).ok());
      ASSERT_TRUE(vm_.mmu().InvalidateEnd(Page(0)).ok());
    });
    const uint64_t retries = vm_.mmu().GetStats().fault_retries;
    EXPECT_TRUE(cpu_->Touch(At(0), Write()).hit());
    EXPECT_EQ(vm_.mmu().GetStats().fault_retries, retries + 1);
    vm_.host().SetResolveHook(nullptr);
    EXPECT_TRUE(cpu_->Touch(At(1), Write()).hit()) << "and goes on working";
    ASSERT_TRUE(vm_.mmu().InvalidateBegin(Page(0, 2)).ok());
    ASSERT_TRUE(vm_.mmu().InvalidateEnd(Page(0, 2)).ok());
  }
}

// Bug 12 of KVM's: everything is invalidated while a fault is in flight.
TEST_F(Notifier, AFaultThatFindsItsRootObsoleteStartsOver) {
  bool bumped = false;
  vm_.host().SetResolveHook([&](Hva, AccessType) {
    if (!bumped) vm_.mmu().BumpGeneration();
    bumped = true;
  });
  EXPECT_TRUE(cpu_->mmu().HandleFault(At(0), Write()).resume());
  EXPECT_GE(vm_.mmu().GetStats().fault_retries, 1u);
  const auto rmap = DumpRmap(vm_.mmu(), kNormal, Gfn(0));
  ASSERT_EQ(rmap.size(), 1u);
  EXPECT_FALSE(rmap[0].obsolete) << "mapped under a root that was gone";
}

TEST_F(Notifier, AFaultThatLosesEveryRoundEndsAsRetryWithNothingMapped) {
  vm_.host().SetResolveHook(
      [&](Hva, AccessType) { vm_.mmu().BumpGeneration(); });
  EXPECT_EQ(cpu_->mmu().HandleFault(At(0), Write()).kind, Kind::kRetry);
  EXPECT_EQ(vm_.RmapLength(Gfn(0)), 0u);
}

TEST_F(Notifier, TheHostHearsOfAPageBeforeTheGuestCanWriteIt) {
  bool told = false;
  vm_.host().ClearMarks();
  ASSERT_TRUE(cpu_->Touch(At(5), Write()).hit());
  told = vm_.host().IsMarkedDirty(slot_.hva + 5 * kPageSize);
  EXPECT_TRUE(told);
  EXPECT_TRUE(vm_.host().IsMarkedYoung(slot_.hva + 5 * kPageSize));
}

TEST_F(Notifier, AgingTellsWhatWasTouchedSince) {
  TouchPages(4);
  EXPECT_TRUE(vm_.mmu().TestAge(Page(1)));
  EXPECT_TRUE(vm_.mmu().TestAge(Page(1))) << "testing changes nothing";
  EXPECT_TRUE(vm_.mmu().Age(Page(0, 4)));
  EXPECT_FALSE(vm_.mmu().Age(Page(0, 4)));
  EXPECT_FALSE(vm_.mmu().TestAge(Page(0, 4)));
  cpu_->cpu().EvictAll();
  ASSERT_TRUE(cpu_->Touch(At(2), Read()).hit());
  EXPECT_FALSE(vm_.mmu().TestAge(Page(0, 2)));
  EXPECT_TRUE(vm_.mmu().TestAge(Page(2)));
  EXPECT_FALSE(vm_.mmu().Age(Page(512, 4))) << "never mapped";
}

TEST_F(Notifier, TheSameHostMemoryIsUnmappedFromEverySlotThatHasIt) {
  SlotSpec alias = slot_;
  alias.id = SlotId{1};
  alias.base = Gfn(0x10000);
  vm_.AddSlot(alias);
  SlotSpec smm = slot_;
  smm.space = AddressSpace::kSmm;
  vm_.AddSlot(smm);
  GuestVcpu& other = vm_.AddVcpu();
  ASSERT_TRUE(other.mmu().SetAddressSpace(AddressSpace::kSmm).ok());
  TouchPages(2);
  ASSERT_TRUE(cpu_->Touch(Gva(0x1000'0000), Write()).hit());
  ASSERT_TRUE(other.Touch(At(0), Write()).hit());

  ASSERT_TRUE(vm_.mmu().InvalidateBegin(Page(0)).ok());
  EXPECT_EQ(vm_.RmapLength(Gfn(0)), 0u);
  EXPECT_EQ(vm_.RmapLength(Gfn(0x10000)), 0u);
  EXPECT_EQ(vm_.RmapLength(Gfn(0), AddressSpace::kSmm), 0u);
  EXPECT_EQ(vm_.RmapLength(Gfn(1)), 1u);
  ASSERT_TRUE(vm_.mmu().InvalidateEnd(Page(0)).ok());
}

}  // namespace
}  // namespace shadowmmu::testing
