// Large pages: an entry maps 2 MiB or 1 GiB where guest, host, alignment, slot,
// dirty logging and shadowed tables inside all allow; it is split when one of
// these changes, and comes back when that ends. All of it twice: for each level
// that is large.

#include <gtest/gtest.h>

#include <cstdint>
#include <ostream>
#include <string>

#include "src/mmu/vm.h"
#include "src/mmu/zap.h"
#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {
namespace {

constexpr AddressSpace kNormal = AddressSpace::kNormal;
constexpr uint64_t kAll = gpte::kWritable | gpte::kUser;
// Aligned to 512 GiB.
constexpr Gva kGva{0x40'0000'0000};
// Where the guest maps single pages.
constexpr Gva kSmallGva{0x80'0000'0000};
constexpr SlotId kLarge{1};
constexpr Hva kHva{0x6000'0000'0000};
// More than the page takes, so that slots can begin and end off its edges.
constexpr uint64_t kSpare = 16;

class LargePages : public ::testing::TestWithParam<Level> {
 protected:
  LargePages()
      : vm_(SmallVm::Options{.frames = static_cast<uint32_t>(3 * pages()),
                             .largest = level()}) {
    vm_.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = 256});
    cpu_ = &vm_.AddVcpu();
    tables_ = &vm_.UseTables(*cpu_, {Gfn(16), 64});
    EXPECT_TRUE(tables_->Map(kGva, ToGpa(base()), level(), kAll).ok());
  }
  ~LargePages() override { EXPECT_EQ(vm_.Violations(), ""); }

  static Level level() { return GetParam(); }
  static uint64_t pages() { return PagesPerEntry(GetParam()); }
  // Of the guest's page.
  static Gfn base() { return Gfn(4 * pages()); }
  // Aligned as the guest's page, from the second such run of frames on.
  static Hva hva() { return kHva + (base().value() << kPageShift); }
  Gva At(uint64_t page) const { return kGva + page * kPageSize; }

  // A slot with so much less at its ends, or more, and its memory so many pages
  // off the alignment.
  void AddSlot(int64_t begin = 0, int64_t end = 0, uint64_t shift = 0) {
    const uint64_t size = pages() + static_cast<uint64_t>(end - begin);
    const SlotSpec spec{
        .id = kLarge,
        .base = base() + static_cast<uint64_t>(begin),
        .pages = size,
        .hva = hva() + (static_cast<uint64_t>(begin) + shift) * kPageSize};
    vm_.host().MapRange(spec.hva, size,
                        Frame{static_cast<uint32_t>(
                            pages() + static_cast<uint64_t>(begin) + shift)});
    vm_.AddSlot(spec);
  }
  // What the CPU has for a page, after it touched it.
  Level LevelOf(uint64_t page, const Access& access = Write()) {
    const TouchResult touched = cpu_->Touch(At(page), access);
    EXPECT_TRUE(touched.hit()) << touched;
    EXPECT_EQ(touched.hpa, ToHpa(vm_.PfnOf(base() + page)));
    return touched.level;
  }
  uint32_t Faults(uint64_t page) {
    const TouchResult touched = cpu_->Touch(At(page), Write());
    EXPECT_TRUE(touched.hit()) << touched;
    return touched.faults;
  }
  void SetFlags(SlotFlags flags) {
    ASSERT_TRUE(vm_.mmu().SetSlotFlags(kNormal, kLarge, flags).ok());
  }
  // The guest uses a page of the large one as a page table, and maps through
  // it.
  void ShadowATableAt(uint64_t page, GuestVcpu& cpu) {
    ASSERT_TRUE(tables_->SetTable(kSmallGva, Level::k2M, base() + page).ok());
    ASSERT_TRUE(tables_->Map(kSmallGva, Gpa(0x1000), Level::k4K, kAll).ok());
    ASSERT_TRUE(cpu.Touch(kSmallGva, Read()).hit());
  }
  void ShadowATableAt(uint64_t page) { ShadowATableAt(page, *cpu_); }
  // A vCPU on the same tables, in the address space that SMM sees: the same
  // memory.
  GuestVcpu& AddSmmVcpu() {
    for (const uint32_t id : {0u, ToInt(kLarge)}) {
      SlotSpec slot = *vm_.mmu().FindSlot(kNormal, SlotId{id});
      slot.space = AddressSpace::kSmm;
      vm_.AddSlot(slot);
    }
    GuestVcpu& smm = vm_.AddVcpu();
    EXPECT_TRUE(smm.mmu().SetAddressSpace(AddressSpace::kSmm).ok());
    EXPECT_TRUE(
        smm.mmu()
            .SetRegisters(RegistersFor(GuestMode::kFourLevel, tables_->root()))
            .ok());
    return smm;
  }
  // That table is a table no more.
  void Unshadow(uint64_t page) {
    Vm& vm = vm_.mmu().internals();
    const VmLock held(vm);
    TableIndex table = TableIndex::kNil;
    vm.pages.ForEachShadowing(base() + page,
                              [&](TableIndex found) { table = found; });
    ASSERT_NE(table, TableIndex::kNil);
    ZapBatch batch;
    batch.Zap(vm, table);
    batch.Commit(vm);
  }
  // The host's pages around the memory are of this size from now on: it tells
  // when it splits or collapses its own.
  void ChangeHostPages(Level largest) {
    const HvaRange all{hva(), pages() * kPageSize};
    ASSERT_TRUE(vm_.mmu().InvalidateBegin(all).ok());
    vm_.host().SetLargestPage(largest);
    ASSERT_TRUE(vm_.mmu().InvalidateEnd(all).ok());
  }

  SmallVm vm_;
  GuestVcpu* cpu_ = nullptr;
  GuestTableBuilder* tables_ = nullptr;
};

// ---- What must allow it ----

TEST_P(LargePages, OneEntryMapsAllWhereEverythingAllowsIt) {
  AddSlot();
  EXPECT_EQ(LevelOf(7), level());
  EXPECT_EQ(Faults(0), 0u);
  EXPECT_EQ(Faults(pages() - 1), 0u);
  EXPECT_EQ(vm_.mmu().GetStats().leaf_sptes, 1u);
}

TEST_P(LargePages, ASmallGuestPageIsMappedSmall) {
  AddSlot();
  ASSERT_TRUE(tables_->Map(kSmallGva, ToGpa(base()), Level::k4K, kAll).ok());
  const TouchResult touched = cpu_->Touch(kSmallGva, Write());
  EXPECT_TRUE(touched.hit()) << touched;
  EXPECT_EQ(touched.level, Level::k4K);
}

TEST_P(LargePages, SmallHostPagesAreMappedSmall) {
  AddSlot();
  vm_.host().SetLargestPage(Level::k4K);
  EXPECT_EQ(LevelOf(7), Level::k4K);
}

TEST_P(LargePages, HostMemoryOffTheAlignmentIsMappedSmall) {
  AddSlot(0, 0, /*shift=*/1);
  EXPECT_EQ(LevelOf(7), Level::k4K);
}

TEST_P(LargePages, ASlotThatBeginsAPageLateIsMappedSmallerAtItsEdge) {
  AddSlot(/*begin=*/1, 0);
  EXPECT_EQ(LevelOf(1), Level::k4K);
  EXPECT_LT(LevelOf(pages() - 1), level());
}

TEST_P(LargePages, ASlotThatEndsAPageEarlyIsMappedSmallerAtItsEdge) {
  AddSlot(0, /*end=*/-1);
  EXPECT_EQ(LevelOf(pages() - 2), Level::k4K);
  EXPECT_LT(LevelOf(0), level());
}

TEST_P(LargePages, ASlotThatIsLongerIsMappedLargeWhereItCoversAll) {
  AddSlot(-static_cast<int64_t>(kSpare), kSpare);
  EXPECT_EQ(LevelOf(7), level());
}

TEST_P(LargePages, ASlotThatLogsIsMappedSmall) {
  AddSlot();
  SetFlags(SlotFlags::kLogDirty);
  EXPECT_EQ(LevelOf(7, Read()), Level::k4K);
  EXPECT_EQ(LevelOf(7, Write()), Level::k4K);
}

TEST_P(LargePages, ATableInsideIsNeverWritableThroughALargePage) {
  AddSlot();
  ShadowATableAt(9);
  EXPECT_EQ(LevelOf(7), Level::k4K);
  EXPECT_EQ(LevelOf(9), Level::k4K);
}

// ---- What splits it, and what brings it back ----

TEST_P(LargePages, LoggingSplitsAndItsEndLetsTheNextFaultMapLarge) {
  AddSlot();
  EXPECT_EQ(LevelOf(7), level());
  for (int round = 0; round < 2; ++round) {
    SetFlags(SlotFlags::kLogDirty);
    EXPECT_EQ(LevelOf(7), Level::k4K);
    EXPECT_EQ(LevelOf(9, Read()), Level::k4K);
    EXPECT_EQ(vm_.mmu().GetStats().leaf_sptes, 2u);
    SetFlags(SlotFlags::kNone);
    EXPECT_EQ(vm_.mmu().GetStats().leaf_sptes, 0u);
    // What was mapped small is mapped large by the next touch of it.
    EXPECT_EQ(LevelOf(7), level());
    EXPECT_EQ(Faults(9), 0u);
    EXPECT_EQ(vm_.mmu().GetStats().leaf_sptes, 1u);
  }
}

TEST_P(LargePages, ACpuInTheGuestLosesTheLargePageWhenLoggingBegins) {
  AddSlot();
  EXPECT_EQ(LevelOf(7), level());
  ASSERT_TRUE(cpu_->mmu().EnterGuest().resume());
  SetFlags(SlotFlags::kLogDirty);
  EXPECT_FALSE(cpu_->cpu().Access(At(9), Write()).hit());
  cpu_->mmu().ExitGuest();
}

TEST_P(LargePages, ATableThatIsShadowedInsideSplitsAtTheNextStore) {
  AddSlot();
  EXPECT_EQ(LevelOf(7), level());
  ShadowATableAt(9);
  EXPECT_EQ(LevelOf(7), Level::k4K);
  EXPECT_EQ(LevelOf(10), Level::k4K);
}

TEST_P(LargePages, ATableThatTheOtherAddressSpaceShadowsSplitsToo) {
  AddSlot();
  GuestVcpu& smm = AddSmmVcpu();
  EXPECT_EQ(LevelOf(7), level());
  ShadowATableAt(9, smm);
  EXPECT_EQ(LevelOf(7), Level::k4K);
  EXPECT_EQ(LevelOf(10), Level::k4K);
}

// The page that was a table is read-only: the first store into it, at the
// latest, is a fault that finds the way free.
TEST_P(LargePages, TheLastTableInsideGoesAndTheNextFaultMapsLarge) {
  AddSlot();
  ShadowATableAt(9);
  EXPECT_EQ(LevelOf(7), Level::k4K);
  EXPECT_EQ(LevelOf(9, Read()), Level::k4K);
  Unshadow(9);
  EXPECT_EQ(LevelOf(9), level());
  EXPECT_EQ(Faults(7), 0u);
  EXPECT_EQ(LevelOf(7), level());
}

TEST_P(LargePages, ALargePageThatATableMadeReadOnlyIsWritableOnceItHasGone) {
  AddSlot();
  EXPECT_EQ(LevelOf(7), level());
  ShadowATableAt(9);
  Unshadow(9);
  EXPECT_EQ(LevelOf(7), level());
}

TEST_P(LargePages, TheHostSplitsItsPagesAndCollapsesThem) {
  AddSlot();
  EXPECT_EQ(LevelOf(7), level());
  ChangeHostPages(Level::k4K);
  EXPECT_EQ(LevelOf(7), Level::k4K);
  EXPECT_EQ(LevelOf(9), Level::k4K);
  ChangeHostPages(level());
  EXPECT_EQ(LevelOf(7), level());
  EXPECT_EQ(Faults(9), 0u);
}

// ---- What the end of logging leaves as it is ----

TEST_P(LargePages, TheEndOfLoggingTouchesNoSmallGuestPage) {
  AddSlot();
  // In a table where its place is that of the page in its 2 MiB.
  const Gva small = kSmallGva + 5 * kPageSize;
  ASSERT_TRUE(tables_->Map(small, ToGpa(base() + 5), Level::k4K, kAll).ok());
  SetFlags(SlotFlags::kLogDirty);
  ASSERT_TRUE(cpu_->Touch(small, Write()).hit());
  EXPECT_EQ(LevelOf(5), Level::k4K);
  SetFlags(SlotFlags::kNone);
  EXPECT_EQ(cpu_->Touch(small, Write()).faults, 0u);
  EXPECT_EQ(LevelOf(5), level());
}

TEST_P(LargePages, TheEndOfLoggingLeavesWhatIsNotAligned) {
  AddSlot(0, 0, /*shift=*/1);
  SetFlags(SlotFlags::kLogDirty);
  EXPECT_EQ(LevelOf(7), Level::k4K);
  SetFlags(SlotFlags::kNone);
  EXPECT_EQ(Faults(7), 0u);
}

TEST_P(LargePages, TheEndOfLoggingLeavesTheEdgesOfTheSlot) {
  AddSlot(/*begin=*/1, /*end=*/-1);
  SetFlags(SlotFlags::kLogDirty);
  EXPECT_EQ(LevelOf(1), Level::k4K);
  EXPECT_EQ(LevelOf(pages() - 2), Level::k4K);
  SetFlags(SlotFlags::kNone);
  EXPECT_EQ(Faults(1), 0u);
  EXPECT_EQ(Faults(pages() - 2), 0u);
}

TEST_P(LargePages, TheEndOfLoggingLeavesWhatHasATableInside) {
  AddSlot();
  SetFlags(SlotFlags::kLogDirty);
  ShadowATableAt(9);
  EXPECT_EQ(LevelOf(7), Level::k4K);
  SetFlags(SlotFlags::kNone);
  EXPECT_EQ(Faults(7), 0u);
}

// Two pages next to each other lie apart in the host's memory.
TEST_P(LargePages, TheEndOfLoggingLeavesWhatTheHostHasInPieces) {
  AddSlot();
  // Each by itself is where a large page would have it.
  vm_.host().Retarget(hva() + 8 * kPageSize, Frame{8});
  SetFlags(SlotFlags::kLogDirty);
  EXPECT_EQ(LevelOf(7), Level::k4K);
  EXPECT_EQ(LevelOf(8), Level::k4K);
  SetFlags(SlotFlags::kNone);
  EXPECT_EQ(Faults(7), 0u);
  EXPECT_EQ(Faults(8), 0u);
}

// One run, but not aligned as a large page must be.
TEST_P(LargePages, TheEndOfLoggingLeavesARunOfFramesOffTheAlignment) {
  AddSlot();
  const uint64_t all = pages() < 4096 ? pages() : 4096;
  vm_.host().MapRange(hva(), all, Frame{static_cast<uint32_t>(pages() + 1)});
  SetFlags(SlotFlags::kLogDirty);
  EXPECT_EQ(LevelOf(7), Level::k4K);
  EXPECT_EQ(LevelOf(8), Level::k4K);
  SetFlags(SlotFlags::kNone);
  EXPECT_EQ(Faults(7), 0u);
}

INSTANTIATE_TEST_SUITE_P(Levels, LargePages,
                         ::testing::Values(Level::k2M, Level::k1G),
                         [](const auto& level) {
                           return level.param == Level::k2M
                                      ? std::string("Of2M")
                                      : std::string("Of1G");
                         });

// ---- Between the two levels ----

class PagesOf1G : public LargePages {};

// Only the 2 MiB around the table are small.
TEST_P(PagesOf1G, ATableInsideLeavesTheOther2MLarge) {
  AddSlot();
  ShadowATableAt(9);
  EXPECT_EQ(LevelOf(7), Level::k4K);
  EXPECT_EQ(LevelOf(600), Level::k2M);
  Unshadow(9);
  EXPECT_EQ(LevelOf(9), Level::k1G);
  EXPECT_EQ(LevelOf(600), Level::k1G);
}

TEST_P(PagesOf1G, HostPagesOf2MAreMappedAsThat) {
  AddSlot();
  vm_.host().SetLargestPage(Level::k2M);
  EXPECT_EQ(LevelOf(7), Level::k2M);
  EXPECT_EQ(LevelOf(600), Level::k2M);
  SetFlags(SlotFlags::kLogDirty);
  EXPECT_EQ(LevelOf(7), Level::k4K);
  SetFlags(SlotFlags::kNone);
  EXPECT_EQ(LevelOf(7), Level::k2M);
}

// The slot covers it but for the first page.
TEST_P(PagesOf1G, ASlotThatBeginsAPageLateHasLarge2MBeyondItsEdge) {
  AddSlot(/*begin=*/1, 0);
  EXPECT_EQ(LevelOf(1), Level::k4K);
  EXPECT_EQ(LevelOf(600), Level::k2M);
}

INSTANTIATE_TEST_SUITE_P(Levels, PagesOf1G, ::testing::Values(Level::k1G));

// ---- A guest with paging off: direct from the root on ----

TEST(LargePagesWithPagingOff, LoggingSplitsAndItsEndLetsTheNextFaultMapLarge) {
  SmallVm vm(SmallVm::Options{.largest = Level::k2M});
  vm.AddSlot({.id = kLarge, .base = Gfn(512), .pages = 1024});
  GuestVcpu& cpu = vm.AddVcpu();
  const Gva first(512 * kPageSize);
  const Gva second(1024 * kPageSize);
  const auto level = [&](Gva gva) {
    const TouchResult touched = cpu.Touch(gva, Write());
    EXPECT_TRUE(touched.hit()) << touched;
    return touched.level;
  };
  EXPECT_EQ(level(first), Level::k2M);
  EXPECT_EQ(level(second), Level::k2M);
  ASSERT_TRUE(
      vm.mmu().SetSlotFlags(kNormal, kLarge, SlotFlags::kLogDirty).ok());
  for (uint64_t i = 0; i < 20; ++i) {
    EXPECT_EQ(level(first + i * kPageSize), Level::k4K);
    EXPECT_EQ(level(second + i * kPageSize), Level::k4K);
  }
  ASSERT_TRUE(vm.mmu().SetSlotFlags(kNormal, kLarge, SlotFlags::kNone).ok());
  EXPECT_EQ(vm.mmu().GetStats().leaf_sptes, 0u);
  EXPECT_EQ(level(first), Level::k2M);
  EXPECT_EQ(level(second), Level::k2M);
  EXPECT_EQ(vm.Violations(2), "");
}

}  // namespace
}  // namespace shadowmmu::testing
