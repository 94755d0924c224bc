// Every invariant that the audit checks is broken on purpose, and seen: here
// those of rmaps and parent lists (1 to 4). Each test that damages something
// puts it back and sees that the audit is content again.

#include <gtest/gtest.h>

#include "src/mmu/spte_write.h"
#include "tests/mmu/breakable_vm.h"

namespace shadowmmu::testing {
namespace {

using B = BreakableVm;

class AuditBreak : public ::testing::Test {
 protected:
  BreakableVm vm_;
};

// ---- 1: a leaf sits on exactly one rmap ----

TEST_F(AuditBreak, Invariant1ALeafOnNoRmapIsReported) {
  vm_.ExpectReported(1, "sits on no rmap", [](Vm& vm) {
    vm.lock.AssertHeld();
    return Set(HeadOf(vm, B::kSingle), RmapHead());
  });
}

TEST_F(AuditBreak, Invariant1ALeafOnTwoRmapsIsReported) {
  vm_.ExpectReported(1, " and on ", [](Vm& vm) {
    vm.lock.AssertHeld();
    return Set(HeadOf(vm, B::kUnmapped),
               RmapHead::Single(LeafOf(vm, B::kSingle)));
  });
}

TEST_F(AuditBreak, Invariant1ALeafTwiceOnOneRmapIsReported) {
  vm_.ExpectReported(1, " and on ", [](Vm& vm) {
    vm.lock.AssertHeld();
    PteListDesc& desc =
        vm.lists.descriptors()[HeadOf(vm, B::kAliased).descriptor()];
    return Set(desc.sptes[0], desc.sptes[1]);
  });
}

TEST_F(AuditBreak, Invariant1ALeafOnAParentListIsReported) {
  vm_.ExpectReported(1, "is a leaf and sits on the parent list", [](Vm& vm) {
    vm.lock.AssertHeld();
    const SpteRef leaf = LeafOf(vm, B::kSingle);
    ShadowPage& root = vm.arena.Page(PageOf(vm, B::kRootTable));
    return Both(Set(HeadOf(vm, B::kSingle), RmapHead()),
                Set(root.parents, RmapHead::Single(leaf)));
  });
}

TEST_F(AuditBreak, Invariant1ALeafThatGrantsMoreThanItsRoleIsReported) {
  vm_.ExpectReported(1, "grants wux, its role -ux", [](Vm& vm) {
    vm.lock.AssertHeld();
    const SpteRef leaf = LeafOf(vm, B::kReadOnly);
    return SetEntry(vm, leaf, vm.arena.Load(leaf).bits() | pte::kWritable);
  });
}

TEST_F(AuditBreak, Invariant1AReservedBitIsReported) {
  vm_.ExpectReported(1, "bits that the CPU reserves", [](Vm& vm) {
    vm.lock.AssertHeld();
    const SpteRef leaf = LeafOf(vm, B::kSingle);
    return SetEntry(vm, leaf, vm.arena.Load(leaf).bits() | uint64_t{1} << 50);
  });
}

TEST_F(AuditBreak, Invariant1AReservedBitInALinkIsReported) {
  vm_.ExpectReported(1, "bits that the CPU reserves", [](Vm& vm) {
    vm.lock.AssertHeld();
    const SpteRef link = AnyLink(vm).first;
    return SetEntry(vm, link, vm.arena.Load(link).bits() | uint64_t{1} << 49);
  });
}

TEST_F(AuditBreak, Invariant1ALargeLeafOfAnUnalignedGfnIsReported) {
  vm_.ExpectReported(1, "not aligned to its level", [](Vm& vm) {
    vm.lock.AssertHeld();
    const SpteRef leaf = LeafOf(vm, B::kLarge.begin, Level::k2M);
    const ShadowPage& page = vm.arena.Page(leaf.table());
    Gfn& gfn = vm.arena.translations()[page.translations].gfn[leaf.index()];
    return Set(gfn, gfn + 1);
  });
}

// ---- 2: an rmap names leaves of its gfn ----

TEST_F(AuditBreak, Invariant2AnEntryThatIsNotPresentIsReported) {
  vm_.ExpectReported(2, "which is not present", [](Vm& vm) {
    vm.lock.AssertHeld();
    return SetEntry(vm, LeafOf(vm, B::kSingle), 0);
  });
}

TEST_F(AuditBreak, Invariant2AnEntryOfAFreeTableIsReported) {
  vm_.ExpectReported(2, "a freed spte", [](Vm& vm) {
    vm.lock.AssertHeld();
    const TableIndex free = vm.arena.Take();
    vm.arena.Put(free);
    return Set(HeadOf(vm, B::kUnmapped), RmapHead::Single(SpteRef(free, 3)));
  });
}

TEST_F(AuditBreak, Invariant2AnEntryOfATableThatNeverWasIsReported) {
  vm_.ExpectReported(2, "a freed spte", [](Vm& vm) {
    vm.lock.AssertHeld();
    const SpteRef beyond(static_cast<TableIndex>(vm.arena.end()), 0);
    return Set(HeadOf(vm, B::kUnmapped), RmapHead::Single(beyond));
  });
}

TEST_F(AuditBreak, Invariant2ANilEntryInAChainIsReported) {
  vm_.ExpectReported(2, "a freed spte", [](Vm& vm) {
    vm.lock.AssertHeld();
    PteListDesc& desc =
        vm.lists.descriptors()[HeadOf(vm, B::kAliased).descriptor()];
    return Set(desc.sptes[0], SpteRef());
  });
}

TEST_F(AuditBreak, Invariant2ALinkOnAnRmapIsReported) {
  vm_.ExpectReported(2, "which is no leaf", [](Vm& vm) {
    vm.lock.AssertHeld();
    return Set(HeadOf(vm, B::kUnmapped), RmapHead::Single(AnyLink(vm).first));
  });
}

TEST_F(AuditBreak, Invariant2ALeafOnTheRmapOfAnotherGfnIsReported) {
  vm_.ExpectReported(2, "which maps gfn 0x44c of as 0 at 4K", [](Vm& vm) {
    vm.lock.AssertHeld();
    const SpteRef leaf = LeafOf(vm, B::kSingle);
    return Both(Set(HeadOf(vm, B::kSingle), RmapHead()),
                Set(HeadOf(vm, B::kUnmapped), RmapHead::Single(leaf)));
  });
}

TEST_F(AuditBreak, Invariant2ALeafOnTheRmapOfAnotherLevelIsReported) {
  vm_.ExpectReported(2, "the 2M rmap of gfn 0x400 of as 0 names", [](Vm& vm) {
    vm.lock.AssertHeld();
    const SpteRef leaf = LeafOf(vm, B::kSingle);
    return Both(
        Set(HeadOf(vm, B::kSingle), RmapHead()),
        Set(HeadOf(vm, B::kAliased, Level::k2M), RmapHead::Single(leaf)));
  });
}

TEST_F(AuditBreak, Invariant2ALeafOnTheRmapOfTheOtherSpaceIsReported) {
  vm_.ExpectReported(2, "of as 1 names", [](Vm& vm) {
    vm.lock.AssertHeld();
    const SpteRef leaf = LeafOf(vm, B::kRootTable);
    return Both(Set(HeadOf(vm, B::kRootTable), RmapHead()),
                Set(HeadOf(vm, B::kRootTable, Level::k4K, AddressSpace::kSmm),
                    RmapHead::Single(leaf)));
  });
}

TEST_F(AuditBreak, Invariant2AStoredGfnThatIsNotTheRmapsIsReported) {
  vm_.ExpectReported(2, "which maps gfn 0x44d", [](Vm& vm) {
    vm.lock.AssertHeld();
    const SpteRef leaf = LeafOf(vm, B::kSingle);
    vm.arena.SetGfn(leaf, B::kSingle + 1);
    return [&vm, leaf] {
      vm.lock.AssertHeld();
      vm.arena.SetGfn(leaf, B::kSingle);
    };
  });
}

TEST_F(AuditBreak, Invariant2AChainThatGoesInACircleIsReported) {
  vm_.ExpectReported(2, "does not end", [](Vm& vm) {
    vm.lock.AssertHeld();
    const uint32_t first = HeadOf(vm, B::kAliased).descriptor();
    const uint32_t second = vm.lists.descriptors()[first].next;
    return Set(vm.lists.descriptors()[second].next, first);
  });
}

TEST_F(AuditBreak, Invariant2AChainThatLeavesThePoolIsReported) {
  vm_.ExpectReported(2, "names descriptor 268435455", [](Vm& vm) {
    vm.lock.AssertHeld();
    const uint32_t first = HeadOf(vm, B::kAliased).descriptor();
    return Set(vm.lists.descriptors()[first].next, kMaxDescriptors - 1);
  });
}

TEST_F(AuditBreak, Invariant2ADescriptorOfAnotherOwnerIsReported) {
  for (const bool second : {false, true}) {
    vm_.ExpectReported(2, "a descriptor of another owner", [&](Vm& vm) {
      vm.lock.AssertHeld();
      uint32_t index = HeadOf(vm, B::kAliased).descriptor();
      if (second) index = vm.lists.descriptors()[index].next;
      PteListDesc& desc = vm.lists.descriptors()[index];
      return Set(desc.owner_and_count, desc.owner_and_count ^ 0x10);
    });
  }
}

TEST_F(AuditBreak, Invariant2AnEmptyDescriptorIsReported) {
  vm_.ExpectReported(2, "a descriptor of 0 entries", [](Vm& vm) {
    vm.lock.AssertHeld();
    PteListDesc& desc =
        vm.lists.descriptors()[HeadOf(vm, B::kAliased).descriptor()];
    return Set(desc.owner_and_count, desc.owner_and_count & ~0xfu);
  });
}

TEST_F(AuditBreak, Invariant2AnOverfullDescriptorIsReported) {
  vm_.ExpectReported(2, "a descriptor of 15 entries", [](Vm& vm) {
    vm.lock.AssertHeld();
    PteListDesc& desc =
        vm.lists.descriptors()[HeadOf(vm, B::kAliased).descriptor()];
    return Set(desc.owner_and_count, desc.owner_and_count | 0xfu);
  });
}

TEST_F(AuditBreak, Invariant2AHoleInTheMiddleOfAChainIsReported) {
  vm_.ExpectReported(2, "13 entries that is not its first", [](Vm& vm) {
    vm.lock.AssertHeld();
    const uint32_t first = HeadOf(vm, B::kAliased).descriptor();
    PteListDesc& second =
        vm.lists.descriptors()[vm.lists.descriptors()[first].next];
    return Set(second.owner_and_count, second.owner_and_count - 1);
  });
}

TEST_F(AuditBreak, Invariant2ABackReferenceThatPointsElsewhereIsReported) {
  vm_.ExpectReported(2, "back-reference that points elsewhere", [](Vm& vm) {
    vm.lock.AssertHeld();
    Place& place = vm.lists.back_references().Of(LeafOf(vm, B::kAliased));
    return Set(place, Place(place.descriptor(), place.position() ^ 1));
  });
}

// ---- 3: nothing is added to a dying slot: a CHECK ----

using AuditBreakDeathTest = AuditBreak;

TEST_F(AuditBreakDeathTest, Invariant3AnSpteOnTheRmapOfADyingSlotIsACheck) {
  Vm& inside = vm_.inside();
  const auto add = [&inside] {
    const VmLock held(inside);
    SlotOf(inside, B::kSingle).rmaps->SetRemoveOnly();
    FlushObligation flush;
    const SpteRef leaf = LeafOf(inside, B::kSingle);
    const Spte spte = inside.arena.Load(leaf);
    DropEntry(inside, leaf, flush);  // removing is allowed
    Writer writer;
    SetLeaf(inside, writer, VmHold::kExclusive, leaf,
            {.gfn = B::kSingle, .spte = spte, .if_tracked = spte}, flush);
  };
  EXPECT_DEATH(add(), "an spte put on the rmap of a dying slot");
}

TEST_F(AuditBreakDeathTest, Invariant3ATableShadowedInADyingSlotIsACheck) {
  Vm& inside = vm_.inside();
  const auto track = [&inside] {
    const VmLock held(inside);
    SlotRmaps& rmaps = *SlotOf(inside, B::kTableSlot.begin).rmaps;
    rmaps.SetRemoveOnly();
    rmaps.Track(B::kTableSlot.begin, inside.generations.arena_epoch);
  };
  EXPECT_DEATH(track(), "shadowed in a dying slot");
}

// ---- 4: parents and children name each other ----

TEST_F(AuditBreak, Invariant4ALinkThatIsOnNoParentListIsReported) {
  vm_.ExpectReported(4, "is not on its parent list", [](Vm& vm) {
    vm.lock.AssertHeld();
    return Set(vm.arena.Page(AnyLink(vm).second).parents, RmapHead());
  });
}

TEST_F(AuditBreak, Invariant4ALinkToAnotherTableThanItsListSaysIsReported) {
  const auto redirect = [](Vm& vm) {
    vm.lock.AssertHeld();
    return SetEntry(vm, AnyLink(vm).first,
                    vm.format.Table(vm.arena.HpaOf(YoungestPage(vm))).bits());
  };
  vm_.ExpectReported(4, "which does not point there", redirect);
  vm_.ExpectReported(4, "is not on its parent list", redirect);
}

TEST_F(AuditBreak, Invariant4ALeafOnAParentListIsReported) {
  vm_.ExpectReported(4, "which does not point there", [](Vm& vm) {
    vm.lock.AssertHeld();
    return Set(vm.arena.Page(PageOf(vm, B::kRootTable)).parents,
               RmapHead::Single(LeafOf(vm, B::kSingle)));
  });
}

TEST_F(AuditBreak, Invariant4ALinkToNoTableIsReported) {
  vm_.ExpectReported(4, "points to no active table", [](Vm& vm) {
    vm.lock.AssertHeld();
    return SetEntry(vm, AnyLink(vm).first, vm.format.Table(Hpa(0x1000)).bits());
  });
}

TEST_F(AuditBreak, Invariant4ALinkToAFreeTableIsReported) {
  vm_.ExpectReported(4, "points to no active table", [](Vm& vm) {
    vm.lock.AssertHeld();
    const TableIndex free = vm.arena.Take();
    vm.arena.Put(free);
    return SetEntry(vm, AnyLink(vm).first,
                    vm.format.Table(vm.arena.HpaOf(free)).bits());
  });
}

TEST_F(AuditBreak, Invariant4AChildOfAnotherGenerationIsReported) {
  vm_.ExpectReported(4, "generation 0)", [](Vm& vm) {
    vm.lock.AssertHeld();
    return Set(vm.arena.Page(AnyLink(vm).second).mmu_valid_gen, 0);
  });
}

TEST_F(AuditBreak, Invariant4AChildWhoseRoleDoesNotFitIsReported) {
  const auto role = [](Level level, AddressSpace space,
                       shadowmmu::Rights rights) {
    return PageRole(
        level, space, PageKind::kIndirect, rights,
        GuestRules(EntryLayout::kLong,
                   GuestRules::kNoExecute | GuestRules::kLargePages));
  };
  // The page table below the read-only page directory entry.
  const auto become = [&](PageRole wrong) {
    vm_.ExpectReported(4, "points to one (level ", [&](Vm& vm) {
      vm.lock.AssertHeld();
      const SpteRef leaf = LeafOf(vm, B::kSingle);
      return Set(vm.arena.Page(leaf.table()).role, wrong);
    });
  };
  become(role(Level::k1G, AddressSpace::kNormal, shadowmmu::Rights::All()));
  become(role(Level::k4K, AddressSpace::kSmm, shadowmmu::Rights::All()));
}

TEST_F(AuditBreak, Invariant4AChildWithMoreRightsThanItsParentIsReported) {
  vm_.ExpectReported(4, "points to one (level ", [](Vm& vm) {
    vm.lock.AssertHeld();
    const auto [link, child] = AnyLink(vm);
    PageRole& role = vm.arena.Page(link.table()).role;
    return Set(role, PageRole(role.level(), role.space(), role.kind(),
                              shadowmmu::Rights(), role.rules()));
  });
}

}  // namespace
}  // namespace shadowmmu::testing
