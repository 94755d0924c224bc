// Faults of a guest with four-level tables, through the public face and a CPU
// that walks what was written.

#include <gtest/gtest.h>

#include <optional>

#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {
namespace {

using Kind = FaultOutcome::Kind;

constexpr AddressSpace kNormal = AddressSpace::kNormal;
constexpr uint64_t kAll = gpte::kWritable | gpte::kUser;
constexpr Gva kGva{0x40'0000'0000};
constexpr Gpa kData{0x10'0000};
// Where the guest keeps its tables.
constexpr GfnRange kTables{Gfn(16), 64};

class Fault : public ::testing::Test {
 protected:
  explicit Fault(Level largest = Level::k4K)
      : vm_(SmallVm::Options{.largest = largest}) {
    vm_.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = 4096});
    cpu_ = &vm_.AddVcpu();
    tables_ = &vm_.UseTables(*cpu_, kTables);
  }
  ~Fault() override { EXPECT_EQ(vm_.Violations(), ""); }

  void Map(Gva gva, Gpa gpa, uint64_t bits, Level level = Level::k4K) {
    ASSERT_TRUE(tables_->Map(gva, gpa, level, bits).ok());
  }
  uint64_t Entry(Gva gva, Level level = Level::k4K) {
    return tables_->Entry(gva, level).value();
  }
  uint32_t ErrorCode(const TouchResult& touched) {
    EXPECT_TRUE(touched.EndedAs(Kind::kGuestFault)) << touched;
    return touched.outcome.guest_fault.error_code;
  }

  SmallVm vm_;
  GuestVcpu* cpu_ = nullptr;
  GuestTableBuilder* tables_ = nullptr;
};

TEST_F(Fault, AMappedPageIsReachedAtItsHostFrame) {
  Map(kGva, kData, kAll);
  const TouchResult touched = cpu_->Touch(kGva + 0x123, Write());
  ASSERT_TRUE(touched.hit()) << touched;
  EXPECT_EQ(touched.hpa, ToHpa(vm_.PfnOf(ToGfn(kData))) + 0x123);
  EXPECT_EQ(touched.faults, 1u);
  EXPECT_TRUE(cpu_->Touch(kGva, Read()).from_tlb);
}

TEST_F(Fault, AnEntryThatIsNotPresentIsTheGuestsFault) {
  const TouchResult touched = cpu_->Touch(kGva, Write(Privilege::kUser));
  EXPECT_EQ(ErrorCode(touched), pf_error::kWrite | pf_error::kUser);
  EXPECT_EQ(touched.outcome.guest_fault.address, kGva);
}

TEST_F(Fault, RightsAreTheIntersectionOfTheWholeWalk) {
  Map(kGva, kData, kAll);
  ASSERT_TRUE(
      tables_->SetBits(kGva, Level::k1G, gpte::kPresent | gpte::kUser).ok());
  EXPECT_TRUE(cpu_->Touch(kGva, Read(Privilege::kUser)).hit());
  EXPECT_EQ(ErrorCode(cpu_->Touch(kGva, Write())),
            pf_error::kPresent | pf_error::kWrite);

  ASSERT_TRUE(tables_
                  ->SetBits(kGva, Level::k512G,
                            gpte::kPresent | gpte::kWritable | gpte::kNoExecute)
                  .ok());
  vm_.mmu().InvalidateAll();  // the host wrote a table: start afresh
  EXPECT_EQ(ErrorCode(cpu_->Touch(kGva, Read(Privilege::kUser))),
            pf_error::kPresent | pf_error::kUser);
  EXPECT_EQ(ErrorCode(cpu_->Touch(kGva, Fetch())),
            pf_error::kPresent | pf_error::kFetch);
}

TEST_F(Fault, AReservedBitIsReportedAsSuch) {
  Map(kGva, kData, kAll);
  ASSERT_TRUE(tables_
                  ->SetEntry(kGva, Level::k4K,
                             kData.value() | gpte::kPresent | uint64_t{1} << 50)
                  .ok());
  EXPECT_EQ(ErrorCode(cpu_->Touch(kGva, Read())),
            pf_error::kPresent | pf_error::kReserved);
}

TEST_F(Fault, ANonCanonicalAddressIsAGeneralProtectionFault) {
  const FaultOutcome outcome =
      cpu_->mmu().HandleFault(Gva(0x0000'8000'0000'0000), Read());
  ASSERT_EQ(outcome.kind, Kind::kGuestFault);
  EXPECT_EQ(outcome.guest_fault.vector, GuestFault::Vector::kGeneralProtection);
}

TEST_F(Fault, AReadSetsAccessedBitsAndTheFirstWriteTheDirtyBit) {
  Map(kGva, kData, kAll);
  ASSERT_TRUE(cpu_->Touch(kGva, Read()).hit());
  for (const Level level : {Level::k4K, Level::k2M, Level::k1G, Level::k512G}) {
    EXPECT_NE(Entry(kGva, level) & gpte::kAccessed, 0u) << level;
  }
  EXPECT_EQ(Entry(kGva) & gpte::kDirty, 0u);

  ASSERT_TRUE(cpu_->Touch(kGva, Write()).hit());
  EXPECT_NE(Entry(kGva) & gpte::kDirty, 0u);
}

TEST_F(Fault, AnAccessThatFaultsSetsNoBits) {
  Map(kGva, kData, gpte::kUser);
  ErrorCode(cpu_->Touch(kGva, Write()));
  EXPECT_EQ(Entry(kGva) & (gpte::kAccessed | gpte::kDirty), 0u);
  EXPECT_EQ(Entry(kGva, Level::k512G) & gpte::kAccessed, 0u);
}

TEST_F(Fault, NothingIsWrittenInTablesThatLieInAReadOnlySlot) {
  Map(kGva, kData, kAll);
  vm_.AddSlot({.id = SlotId{1},
               .base = Gfn(0x10000),
               .pages = 16,
               .flags = SlotFlags::kReadOnly});
  // A page table in the read-only slot, filled by the host.
  const uint64_t entry = kData.value() | gpte::kPresent | kAll;
  ASSERT_TRUE(vm_.memory().Write64(kNormal, Gpa(0x1000'0000), entry));
  ASSERT_TRUE(tables_->SetTable(kGva, Level::k2M, Gfn(0x10000)).ok());

  EXPECT_TRUE(cpu_->Touch(kGva, Write()).hit());
  EXPECT_EQ(vm_.memory().Read64(kNormal, Gpa(0x1000'0000)), entry);
}

TEST_F(Fault, AWriteIntoAReadOnlySlotMustBeEmulated) {
  vm_.AddSlot({.id = SlotId{1},
               .base = Gfn(0x10000),
               .pages = 16,
               .flags = SlotFlags::kReadOnly});
  Map(kGva, Gpa(0x1000'0000), kAll);
  EXPECT_TRUE(cpu_->Touch(kGva, Read()).hit());
  const TouchResult touched = cpu_->Touch(kGva + 8, Write());
  ASSERT_TRUE(touched.EndedAs(Kind::kEmulate)) << touched;
  EXPECT_EQ(touched.outcome.emulate_reason, EmulateReason::kReadOnlySlot);
  EXPECT_EQ(touched.outcome.gpa, Gpa(0x1000'0008));
}

TEST_F(Fault, AccessWhereNoSlotIsMustBeEmulated) {
  Map(kGva, Gpa(0xfee0'0000), kAll);
  const TouchResult touched = cpu_->Touch(kGva + 0x20, Read());
  ASSERT_TRUE(touched.EndedAs(Kind::kEmulate)) << touched;
  EXPECT_EQ(touched.outcome.emulate_reason, EmulateReason::kNoSlot);
  EXPECT_EQ(touched.outcome.gpa, Gpa(0xfee0'0020));
}

TEST_F(Fault, AGuestTableOutsideTheSlotsIsAMemoryFault) {
  ASSERT_TRUE(tables_->SetTable(kGva, Level::k1G, Gfn(0x80000)).ok());
  const TouchResult touched = cpu_->Touch(kGva, Read());
  ASSERT_TRUE(touched.EndedAs(Kind::kMemoryFault)) << touched;
  EXPECT_EQ(touched.outcome.memory_fault_reason,
            MemoryFaultReason::kTableOutsideSlots);
}

TEST_F(Fault, ARootOutsideTheSlotsIsAMemoryFaultOfTheEntry) {
  ASSERT_TRUE(cpu_->mmu().SetRegisters(LongMode(Gpa(0x8000'0000))).ok());
  const FaultOutcome outcome = cpu_->mmu().EnterGuest();
  EXPECT_EQ(outcome.kind, Kind::kMemoryFault);
  EXPECT_EQ(outcome.gpa, Gpa(0x8000'0000));
}

TEST_F(Fault, MemoryThatTheHostDoesNotBackIsAMemoryFault) {
  Map(kGva, kData, kAll);
  vm_.host().Unmap(*vm_.memory().HvaOf(kNormal, kData));
  const TouchResult touched = cpu_->Touch(kGva, Read());
  ASSERT_TRUE(touched.EndedAs(Kind::kMemoryFault)) << touched;
  EXPECT_EQ(touched.outcome.memory_fault_reason,
            MemoryFaultReason::kHostRefused);
  EXPECT_EQ(touched.outcome.gpa, kData);
}

TEST_F(Fault, AWriteIntoAShadowedTableIsEmulatedAndTheStoreTakesEffect) {
  Map(kGva, kData, kAll);
  const Gva window{0x50'0000'0000};
  Map(window, ToGpa(kTables.begin), kAll);  // the root table itself
  ASSERT_TRUE(cpu_->Touch(kGva, Write()).hit());
  EXPECT_TRUE(cpu_->Touch(window, Read()).hit());

  const TouchResult touched = cpu_->Touch(window + 0x10, Write());
  ASSERT_TRUE(touched.EndedAs(Kind::kEmulate)) << touched;
  EXPECT_EQ(touched.outcome.emulate_reason, EmulateReason::kWriteTracked);

  // The guest clears the root's entry for kGva.
  const Gpa entry = tables_->EntryAddress(kGva, Level::k512G).value();
  tables_->SetStore(&vm_.tracked());
  ASSERT_TRUE(tables_->SetEntry(kGva, Level::k512G, 0).ok());
  EXPECT_EQ(vm_.memory().Read64(kNormal, entry), 0u);
  ErrorCode(cpu_->Touch(kGva, Write()));
}

TEST_F(Fault, AStoreThatChangesNothingZapsNothing) {
  Map(kGva, kData, kAll);
  ASSERT_TRUE(cpu_->Touch(kGva, Write()).hit());
  const uint64_t flushes = vm_.host().flushes();
  tables_->SetStore(&vm_.tracked());
  ASSERT_TRUE(tables_->SetEntry(kGva, Level::k4K, Entry(kGva)).ok());
  EXPECT_EQ(vm_.RmapLength(ToGfn(kData)), 1u);
  EXPECT_EQ(vm_.host().flushes(), flushes);
}

TEST_F(Fault, ACompareExchangeOfAnEntryIsOneStepAndZapsWhatItChanges) {
  Map(kGva, kData, kAll);
  ASSERT_TRUE(cpu_->Touch(kGva, Write()).hit());
  const Gpa entry = tables_->EntryAddress(kGva, Level::k4K).value();
  const uint64_t old = Entry(kGva);
  VcpuMmu& mmu = cpu_->mmu();

  auto lost = mmu.GuestCompareExchange(entry, 8, old ^ 1, 0);
  ASSERT_TRUE(lost.ok());
  EXPECT_FALSE(lost->exchanged);
  EXPECT_EQ(lost->previous, old);
  EXPECT_EQ(vm_.RmapLength(ToGfn(kData)), 1u);

  auto won = mmu.GuestCompareExchange(entry, 8, old, 0);
  ASSERT_TRUE(won.ok());
  EXPECT_TRUE(won->exchanged);
  EXPECT_EQ(vm_.RmapLength(ToGfn(kData)), 0u);
  ErrorCode(cpu_->Touch(kGva, Read()));

  EXPECT_EQ(mmu.GuestCompareExchange(entry, 3, 0, 0).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(mmu.GuestCompareExchange(entry + 1, 8, 0, 0).status().code(),
            absl::StatusCode::kInvalidArgument);
}

// The guest's own store comes between the walk and the mapping.
TEST_F(Fault, AnEntryThatTheGuestChangesDuringTheFaultIsReadAgain) {
  Map(kGva, kData, kAll);
  ASSERT_TRUE(cpu_->Touch(kGva, Write()).hit());  // its tables are shadowed
  cpu_->mmu().Invlpg(kGva);
  bool changed = false;
  vm_.host().SetResolveHook([&](Hva, AccessType) {
    if (changed) return;
    changed = true;
    tables_->SetStore(&vm_.tracked());
    Map(kGva, kData + 9 * kPageSize, kAll);
  });
  const TouchResult touched = cpu_->Touch(kGva, Write());
  EXPECT_TRUE(changed);
  ASSERT_TRUE(touched.hit()) << touched;
  EXPECT_EQ(ToPfn(touched.hpa), vm_.PfnOf(ToGfn(kData) + 9));
  EXPECT_EQ(vm_.RmapLength(ToGfn(kData)), 0u);
}

// Bugs 1 and 2 of KVM's, from here on without INVLPG: the host rewrites the
// directory entry of a large guest page under the direct page that splits it.
TEST_F(Fault, ADirectPageIsNotReusedForAnotherFrame) {
  Map(kGva, Gpa(0x40'0000), kAll, Level::k2M);
  ASSERT_TRUE(cpu_->Touch(kGva, Write()).hit());
  Map(kGva, Gpa(0x60'0000), kAll, Level::k2M);
  const TouchResult touched = cpu_->Touch(kGva + kPageSize, Write());
  ASSERT_TRUE(touched.hit()) << touched;
  EXPECT_EQ(ToPfn(touched.hpa), vm_.PfnOf(Gfn(0x601)));
  EXPECT_EQ(vm_.Violations(), "");
}

TEST_F(Fault, ADirectPageIsNotReusedAsTheShadowOfATable) {
  Map(kGva, Gpa(0x40'0000), kAll, Level::k2M);
  ASSERT_TRUE(cpu_->Touch(kGva, Write()).hit());
  // A page table at the very frame that the direct page maps first.
  ASSERT_TRUE(tables_->SetTable(kGva, Level::k2M, Gfn(0x400)).ok());
  Map(kGva + kPageSize, kData, kAll);
  const TouchResult touched = cpu_->Touch(kGva + kPageSize, Read());
  ASSERT_TRUE(touched.hit()) << touched;
  EXPECT_EQ(ToPfn(touched.hpa), vm_.PfnOf(ToGfn(kData)));
}

// The host rewrote the entry: a fault finds other rights for the same page.
TEST_F(Fault, RightsThatAChangedEntryTakesAwayAreFlushedFromEveryCpu) {
  Map(kGva, kData, kAll | gpte::kNoExecute);
  GuestVcpu& other = vm_.AddVcpu();
  ASSERT_TRUE(other.mmu().SetRegisters(LongMode(tables_->root())).ok());
  ASSERT_TRUE(other.Touch(kGva, Write()).hit());
  ASSERT_TRUE(other.mmu().EnterGuest().resume());

  Map(kGva, kData, gpte::kUser);  // executable now, and no longer writable
  EXPECT_TRUE(cpu_->Touch(kGva, Fetch()).hit());
  EXPECT_TRUE(other.cpu().TlbEntries().empty());
  other.mmu().ExitGuest();
  ErrorCode(other.Touch(kGva, Write()));
}

// Bug 19 of KVM's: the page that is written is the page table that maps it.
TEST_F(Fault, AWriteThroughAnEntryThatMapsItsOwnTableEndsInBoundedFaults) {
  Map(kGva, kData, kAll);
  const Gfn table = ToGfn(tables_->EntryAddress(kGva, Level::k4K).value());
  Map(kGva + kPageSize, ToGpa(table), kAll);
  const TouchResult touched = cpu_->Touch(kGva + kPageSize, Write());
  ASSERT_TRUE(touched.hit()) << touched;
  EXPECT_LE(touched.faults, 2u);
  EXPECT_EQ(vm_.mmu().GetStats().unsync_pages, 1u);
}

// Bug 5 of KVM's: the table is shadowed in one address space, and mapped
// writable through the other.
TEST_F(Fault, AShadowedTableIsNotWritableThroughTheOtherAddressSpace) {
  const SlotSpec normal = vm_.memory().slots()[0];
  SlotSpec smm = normal;
  smm.space = AddressSpace::kSmm;
  vm_.AddSlot(smm);
  GuestVcpu& other = vm_.AddVcpu();
  ASSERT_TRUE(other.mmu().SetAddressSpace(AddressSpace::kSmm).ok());
  const Gva table(ToGpa(kTables.begin).value());
  // Writable before the table is shadowed, by a vCPU with paging off in SMM.
  ASSERT_TRUE(other.Touch(table, Write()).hit());

  Map(kGva, kData, kAll);
  ASSERT_TRUE(cpu_->Touch(kGva, Write()).hit());
  EXPECT_TRUE(other.Touch(table, Write()).EndedAs(Kind::kEmulate));
  EXPECT_TRUE(other.Touch(table, Read()).hit());
}

// The guest's dirty bit is set by the first write even if a read came first,
// and even if another alias made the page writable.
TEST_F(Fault, EveryAliasHasItsOwnDirtyBit) {
  const Gva alias = kGva + 7 * kPageSize;
  Map(kGva, kData, kAll);
  Map(alias, kData, kAll);
  ASSERT_TRUE(cpu_->Touch(kGva, Write()).hit());
  ASSERT_TRUE(cpu_->Touch(alias, Read()).hit());
  EXPECT_EQ(vm_.RmapLength(ToGfn(kData)), 2u);
  EXPECT_EQ(Entry(alias) & gpte::kDirty, 0u);
  ASSERT_TRUE(cpu_->Touch(alias, Write()).hit());
  EXPECT_NE(Entry(alias) & gpte::kDirty, 0u);
}

TEST_F(Fault, TranslateSaysWhatTheTablesSayAndMapsNothing) {
  Map(kGva, kData, gpte::kUser);
  const Translation read = cpu_->mmu().Translate(kGva + 5, Read());
  EXPECT_EQ(read.gpa, kData + 5);
  const Translation write = cpu_->mmu().Translate(kGva, Write());
  EXPECT_FALSE(write.gpa.has_value());
  EXPECT_EQ(write.outcome.kind, Kind::kGuestFault);
  EXPECT_EQ(vm_.mmu().GetStats().leaf_sptes, 0u);
}

TEST_F(Fault, InvlpgMakesTheNextAccessWalkAnew) {
  Map(kGva, kData, kAll);
  ASSERT_TRUE(cpu_->Touch(kGva, Write()).hit());
  // The host rewrites the entry, which no trap sees; the guest's INVLPG is all
  // there is.
  ASSERT_TRUE(tables_->Map(kGva, kData + kPageSize, Level::k4K, kAll).ok());
  cpu_->mmu().Invlpg(kGva);
  const TouchResult touched = cpu_->Touch(kGva, Read());
  ASSERT_TRUE(touched.hit());
  EXPECT_EQ(ToPfn(touched.hpa), vm_.PfnOf(ToGfn(kData) + 1));
}

// Guest-large pages: over host pages of 4K by direct shadow pages, else by
// large sptes.
class LargeFault : public Fault, public ::testing::WithParamInterface<Level> {
 protected:
  LargeFault() : Fault(GetParam()) {}
};

TEST_P(LargeFault, AGuestPageOf2MReachesEveryHostFrameOfIt) {
  const Gpa base{0x40'0000};
  Map(kGva, base, kAll, Level::k2M);
  for (const uint64_t page : {0, 1, 17, 511}) {
    const TouchResult touched = cpu_->Touch(kGva + page * kPageSize, Write());
    ASSERT_TRUE(touched.hit()) << touched;
    EXPECT_EQ(ToPfn(touched.hpa), vm_.PfnOf(ToGfn(base) + page));
    EXPECT_EQ(touched.level, GetParam());
  }
}

TEST_P(LargeFault, ATableThatIsShadowedInsideTheLargePageStaysReadOnly) {
  Map(kGva, kData, kAll);
  const Gva window{0x60'0000'0000};
  Map(window, Gpa(0), kAll, Level::k2M);  // gfns 0 to 511: tables, too
  ASSERT_TRUE(cpu_->Touch(window, Write()).hit());  // before ...
  ASSERT_TRUE(cpu_->Touch(kGva, Write()).hit());
  const TouchResult touched =
      cpu_->Touch(window + ToGpa(kTables.begin).value(), Write());
  EXPECT_TRUE(touched.EndedAs(Kind::kEmulate)) << touched;
  EXPECT_TRUE(cpu_->Touch(window, Write()).hit());  // ... and after
}

TEST_P(LargeFault, ASlotThatEndsInTheMiddleOf2MIsNotMappedBeyondItsEnd) {
  vm_.AddSlot({.id = SlotId{1}, .base = Gfn(0x4000), .pages = 700});
  Map(kGva, Gpa(0x420'0000), kAll, Level::k2M);  // gfn 0x4200, 188 in the slot
  EXPECT_TRUE(cpu_->Touch(kGva, Write()).hit());
  EXPECT_TRUE(cpu_->Touch(kGva + 187 * kPageSize, Write()).hit());
  EXPECT_TRUE(
      cpu_->Touch(kGva + 188 * kPageSize, Write()).EndedAs(Kind::kEmulate));
}

INSTANTIATE_TEST_SUITE_P(HostPages, LargeFault,
                         ::testing::Values(Level::k4K, Level::k2M));

}  // namespace
}  // namespace shadowmmu::testing
