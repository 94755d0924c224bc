// The mail that the project began with, as tests (Marcelo Tosatti and Xiao
// Guangrong, "KVM: MMU: fast invalid all shadow pages", April 2013).
//
// "The sptes in shadow page can be linked to many slots. For example, slot 0 is
// being deleted, sp->spte[0] is linked on slot[0].rmap, sp->spte[1] is linked
// on slot[1].rmap. If we do not access the rmap of this sp, the already-freed
// spte[1] is still linked on slot[1].rmap." (shortened)

#include <gtest/gtest.h>

#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {
namespace {

constexpr AddressSpace kNormal = AddressSpace::kNormal;

// Slot 0 is gfn 0, slot 1 all from gfn 1 on: one shadow page, sp, maps the
// first 512 gfns of a guest with paging off, and so is linked on both.
class SeedMail : public ::testing::Test {
 protected:
  SeedMail() {
    slot0_ = vm_.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = 1});
    slot1_ = vm_.AddSlot({.id = SlotId{1}, .base = Gfn(1), .pages = 511});
    GuestVcpu& vcpu = vm_.AddVcpu();
    EXPECT_TRUE(vcpu.Touch(Gva(0x0000), Write()).hit());
    EXPECT_TRUE(vcpu.Touch(Gva(0x1000), Write()).hit());
  }

  SmallVm vm_;
  SlotSpec slot0_, slot1_;
};

TEST_F(SeedMail, OneShadowPageIsLinkedOnTheRmapsOfTwoSlots) {
  const auto on_slot0 = DumpRmap(vm_.mmu(), kNormal, Gfn(0));
  const auto on_slot1 = DumpRmap(vm_.mmu(), kNormal, Gfn(1));
  ASSERT_EQ(on_slot0.size(), 1u);
  ASSERT_EQ(on_slot1.size(), 1u);
  EXPECT_EQ(on_slot0[0].index, 0u);
  EXPECT_EQ(on_slot1[0].index, 1u);
  EXPECT_EQ(on_slot0[0].page_gfn, on_slot1[0].page_gfn);
  EXPECT_EQ(vm_.Violations(2), "");
}

TEST_F(SeedMail, DeletingSlot0TakesSpte1OffTheRmapOfSlot1WhichLives) {
  vm_.DeleteSlot(kNormal, SlotId{0});

  // sp is freed. Had its zap left slot 1's rmap alone, spte[1] would be there.
  EXPECT_EQ(vm_.RmapLength(Gfn(1)), 0u);
  EXPECT_EQ(vm_.mmu().GetStats().leaf_sptes, 0u);
  EXPECT_EQ(vm_.Violations(), "");

  // Slot 1 lives on: a fault maps it again, and slot 0 is a hole now.
  EXPECT_TRUE(vm_.vcpu(0).Touch(Gva(0x1000), Write()).hit());
  EXPECT_EQ(vm_.RmapLength(Gfn(1)), 1u);
  EXPECT_TRUE(vm_.vcpu(0)
                  .Touch(Gva(0x0000), Write())
                  .EndedAs(FaultOutcome::Kind::kEmulate));
  EXPECT_EQ(vm_.Violations(1), "");
}

// "... since kvm can not do address translation on invalid rmap": but until the
// walk comes by, "mmu-notify can access the invalid rmap", and must find the
// sptes there, because a CPU may still use them.
TEST_F(SeedMail, ANotifierFindsTheSptesOfObsoletePagesUntilTheyAreReclaimed) {
  vm_.mmu().BumpGeneration();
  ASSERT_EQ(vm_.RmapLength(Gfn(1)), 1u) << "a bump unlinks nothing";
  EXPECT_TRUE(DumpRmap(vm_.mmu(), kNormal, Gfn(1))[0].obsolete);
  EXPECT_TRUE(vm_.mmu().TestAge(slot1_.hvas()));

  const HvaRange page{slot1_.hva, kPageSize};
  ASSERT_TRUE(vm_.mmu().InvalidateBegin(page).ok());
  EXPECT_EQ(vm_.RmapLength(Gfn(1)), 0u);
  ASSERT_TRUE(vm_.mmu().InvalidateEnd(page).ok());
  EXPECT_EQ(vm_.Violations(1), "");

  // The walk takes the page, and must not look for spte[1] on the rmap again.
  // (Roots, obsolete but held, go empty.)
  vm_.mmu().ReclaimObsolete(1000);
  EXPECT_EQ(vm_.RmapLength(Gfn(0)), 0u);
  EXPECT_EQ(vm_.Violations(), "");
}

TEST_F(SeedMail, NoLookupFindsAnObsoletePageThoughItIsStillThere) {
  const uint64_t before = vm_.mmu().GetStats().pages_created;
  vm_.mmu().BumpGeneration();
  // What the CPU cached of the obsolete pages is still good: make it walk.
  vm_.vcpu(0).cpu().EvictAll();
  EXPECT_TRUE(vm_.vcpu(0).Touch(Gva(0x1000), Write()).hit());
  EXPECT_GT(vm_.mmu().GetStats().pages_created, before);
  // The old spte and the new one, side by side: the walk has not been by.
  EXPECT_EQ(vm_.RmapLength(Gfn(1)), 2u);
  EXPECT_EQ(vm_.Violations(3), "");
}

// The "N mapped pages beside live slots" of any real deletion.
class SlotDeletion : public ::testing::TestWithParam<uint64_t> {};

TEST_P(SlotDeletion, LeavesNoFreedSpteOnTheRmapsOfLiveSlots) {
  const uint64_t pages = GetParam();
  SmallVm vm;
  // The slots' edges lie in the middle of shadow pages, on both sides.
  const Gfn middle(100);
  vm.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = 100});
  vm.AddSlot({.id = SlotId{1}, .base = middle, .pages = pages});
  vm.AddSlot({.id = SlotId{2}, .base = middle + pages, .pages = 700});
  GuestVcpu& vcpu = vm.AddVcpu();
  const Gfn end = middle + pages + 700;
  for (Gfn gfn; gfn < end; gfn += 1) {
    ASSERT_TRUE(vcpu.Touch(Gva(ToGpa(gfn).value()), Write()).hit()) << gfn;
  }
  ASSERT_EQ(vm.mmu().GetStats().leaf_sptes, end.value());

  vm.DeleteSlot(kNormal, SlotId{1});

  EXPECT_EQ(vm.Violations(), "");
  for (Gfn gfn; gfn < end; gfn += 1) {
    if (gfn >= middle && gfn < middle + pages) continue;
    EXPECT_EQ(vm.RmapLength(gfn), 0u) << gfn << " is on a live slot";
  }
  // And what was freed is used anew, without harm to those rmaps.
  for (Gfn gfn; gfn < end; gfn += 1) {
    const bool hole = gfn >= middle && gfn < middle + pages;
    EXPECT_EQ(vcpu.Touch(Gva(ToGpa(gfn).value()), Write()).hit(), !hole);
  }
  EXPECT_EQ(vm.Violations(800), "");
}

INSTANTIATE_TEST_SUITE_P(Pages, SlotDeletion,
                         ::testing::Values(1, 12, 412, 413, 1500, 5000));

}  // namespace
}  // namespace shadowmmu::testing
