// Invariant 8, unsync pages and the marks that lead to them, is broken on
// purpose, and seen.

#include <gtest/gtest.h>

#include "src/mmu/unsync_marks.h"
#include "tests/mmu/breakable_vm.h"

namespace shadowmmu::testing {
namespace {

using B = BreakableVm;

constexpr uint64_t kAll = gpte::kWritable | gpte::kUser;
constexpr Gva kEdited{0x5000};
constexpr Gva kTwice{0x20'5000};
constexpr Gva kTwiceUpper{0xc000'0000 + 5 * 0x20'0000};
constexpr Gva kWindow{0x80'0000};
constexpr Gfn kEditedData{1302};
constexpr Gfn kTwiceData{1303};

// A guest that has written the page table of one page; another of its page
// tables is a page directory, too, and in step.
class AuditBreakUnsync : public ::testing::Test {
 protected:
  AuditBreakUnsync() {
    SmallVm& small = vm_.small();
    GuestVcpu& cpu = small.AddVcpu();
    GuestTableBuilder& tables = small.UseTables(cpu, GfnRange{Gfn(200), 16});
    const auto map = [&](Gva gva, Gfn gfn) {
      EXPECT_TRUE(tables.Map(gva, ToGpa(gfn), Level::k4K, kAll).ok());
      return ToGfn(tables.EntryAddress(gva, Level::k4K).value());
    };
    edited_ = map(kEdited, kEditedData);
    directory_ = ToGfn(tables.EntryAddress(kEdited, Level::k2M).value());
    root_ = ToGfn(tables.root());
    twice_ = map(kTwice, kTwiceData);
    EXPECT_TRUE(tables.SetTable(kTwiceUpper, Level::k1G, twice_).ok());
    // The page that kTwice maps is a page table to kTwiceUpper.
    EXPECT_TRUE(small.memory().Write64(
        AddressSpace::kNormal, ToGpa(kTwiceData),
        ToGpa(kEditedData).value() | gpte::kPresent | kAll));
    map(kWindow, edited_);
    EXPECT_TRUE(cpu.Touch(kEdited, Write()).hit());
    EXPECT_TRUE(cpu.Touch(kTwice, Read()).hit());
    EXPECT_TRUE(cpu.Touch(kTwiceUpper, Read()).hit());
    EXPECT_TRUE(cpu.Touch(kWindow, Write()).hit());
    EXPECT_EQ(small.mmu().GetStats().unsync_pages, 1u);
  }

  // The page of the guest table in `gfn` at `level`.
  static ShadowPage& Page(Vm& vm, Gfn gfn, Level level)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
    return vm.arena.Page(Table(vm, gfn, level));
  }
  static TableIndex Table(Vm& vm, Gfn gfn, Level level)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
    TableIndex found = TableIndex::kNil;
    vm.pages.ForEachShadowing(gfn, [&](TableIndex table) {
      vm.lock.AssertHeld();
      if (vm.arena.Page(table).role.level() == level) found = table;
    });
    return found;
  }
  // The marks of a page read otherwise.
  void ExpectMarksReported(const std::string& words, Gfn gfn, Level level,
                           uint64_t turned) {
    vm_.ExpectReported(8, words, [&](Vm& vm) {
      vm.lock.AssertHeld();
      uint64_t& word = vm.arena.UnsyncChildrenOf(Table(vm, gfn, level)).word[0];
      return Set(word, word ^ turned);
    });
  }

  BreakableVm vm_;
  Gfn edited_, directory_, root_, twice_;
};

TEST_F(AuditBreakUnsync, Invariant8AMarkThatIsMissingIsReported) {
  ExpectMarksReported(" leads to an unsync page, and is not marked", directory_,
                      Level::k2M, 1);
  ExpectMarksReported(" leads to an unsync page, and is not marked", root_,
                      Level::k512G, 1);
}

TEST_F(AuditBreakUnsync, Invariant8AMarkOfAnEntryThatLeadsToNoneIsReported) {
  // To the window's page table; and no entry at all.
  for (const unsigned entry : {4u, 63u}) {
    ExpectMarksReported(" is marked, and leads to no unsync page", directory_,
                        Level::k2M, uint64_t{1} << entry);
  }
  // A leaf.
  ExpectMarksReported(" is marked, and leads to no unsync page", edited_,
                      Level::k4K, uint64_t{1} << 5);
}

TEST_F(AuditBreakUnsync, Invariant8AMarkInAFreeTableIsReported) {
  vm_.ExpectReported(8, " is marked, and leads to no unsync page", [](Vm& vm) {
    vm.lock.AssertHeld();
    const TableIndex free = vm.arena.Take();
    vm.arena.Put(free);
    return Set(vm.arena.UnsyncChildrenOf(free).word[7], uint64_t{1} << 63);
  });
}

TEST_F(AuditBreakUnsync, Invariant8APageThatMiscountsItsMarksIsReported) {
  for (const uint16_t wrong : {uint16_t{0}, uint16_t{2}}) {
    vm_.ExpectReported(8, " has 1 marks, ", [&](Vm& vm) {
      vm.lock.AssertHeld();
      return Set(Page(vm, directory_, Level::k2M).unsync_children, wrong);
    });
  }
}

TEST_F(AuditBreakUnsync, Invariant8APageThatForgotThatItIsUnsyncIsReported) {
  vm_.ExpectReported(8, " is marked, and leads to no unsync page", [&](Vm& vm) {
    vm.lock.AssertHeld();
    return Set(Page(vm, edited_, Level::k4K).unsync, false);
  });
}

TEST_F(AuditBreakUnsync, Invariant8AnUnsyncPageThatIsNoPageTableIsReported) {
  vm_.ExpectReported(8, ") is unsync, and no page table", [&](Vm& vm) {
    vm.lock.AssertHeld();
    return Set(Page(vm, directory_, Level::k2M).unsync, true);
  });
  vm_.ExpectReported(8, ") is unsync, and no page table", [](Vm& vm) {
    vm.lock.AssertHeld();
    const SpteRef leaf =
        LeafOf(vm, B::kRootTable, Level::k4K, AddressSpace::kSmm);
    return Set(vm.arena.Page(leaf.table()).unsync, true);
  });
}

TEST_F(AuditBreakUnsync, Invariant8OneBesideAnUpperLevelOfItsTableIsReported) {
  vm_.ExpectReported(8, " at an upper level", [&](Vm& vm) {
    vm.lock.AssertHeld();
    return Set(Page(vm, twice_, Level::k4K).unsync, true);
  });
}

TEST_F(AuditBreakUnsync, Invariant11AVmThatMiscountsUnsyncPagesIsReported) {
  for (const uint64_t wrong : {0u, 2u}) {
    vm_.ExpectReported(11, "1 unsync pages, ", [wrong](Vm& vm) {
      vm.lock.AssertHeld();
      return Set(vm.unsync_pages, wrong);
    });
  }
}

// The table that its guest may write is not tracked; one that counts as if it
// were would never be written again.
TEST_F(AuditBreakUnsync, Invariant11AnUnsyncPageThatIsCountedAsTrackingIs) {
  vm_.ExpectReported(11, " is tracked by 0 pages, 1 counted", [&](Vm& vm) {
    vm.lock.AssertHeld();
    RmapChunk& chunk =
        *SlotOf(vm, edited_).rmaps->Chunk(edited_, vm.generations.arena_epoch);
    return Set(chunk.Count(edited_), 1);
  });
}

}  // namespace
}  // namespace shadowmmu::testing
