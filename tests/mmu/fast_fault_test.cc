// Fast faults: a store that only the dirty log keeps from going on takes the
// short way, and one that anything else forbids does not.

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "src/mmu/flush.h"
#include "src/mmu/spte_write.h"
#include "tests/harness/small_vm.h"
#include "tests/mmu/every_mode.h"
#include "tests/mmu/unsync_fixture.h"

namespace shadowmmu::testing {
namespace {

constexpr AddressSpace kNormal = AddressSpace::kNormal;
constexpr SlotId kSlot{0};

// A guest whose tables and data are in one slot that logs.
class FastFault : public UnsyncVm {
 protected:
  explicit FastFault(SmallVm::Options options = {},
                     GuestMode mode = GuestMode::kFourLevel)
      : UnsyncVm(options, mode) {}

  void SetFlags(SlotFlags flags) {
    ASSERT_TRUE(vm_.mmu().SetSlotFlags(kNormal, kSlot, flags).ok());
  }
  // Whether `gfn` is reported; from then on nothing is writable.
  bool TakeLog(Gfn gfn) {
    std::vector<uint64_t> words(DirtyBitmapWords(kPages));
    EXPECT_TRUE(vm_.mmu().GetAndClearDirty(kNormal, kSlot, words).ok());
    return (words[gfn.value() / 64] >> gfn.value() % 64 & 1) != 0;
  }
  // Maps the page, stores into it, and protects it for the log.
  void MapWrittenAndLogged(Gva gva, Gfn gfn, uint64_t bits = kAll) {
    Map(gva, gfn, bits);
    ExpectAt(gva, gfn, Write());
    SetFlags(SlotFlags::kLogDirty);
  }
  uint64_t FastFaults() { return vm_.mmu().GetStats().fast_faults; }

  // A store that goes through after one fault, a fast one or not.
  void ExpectStore(Gva gva, uint64_t fast) {
    const uint64_t before = FastFaults();
    const TouchResult touched = cpu_->Touch(gva, Write());
    EXPECT_TRUE(touched.hit()) << touched;
    EXPECT_EQ(touched.faults, 1u);
    EXPECT_EQ(FastFaults() - before, fast);
    EXPECT_EQ(vm_.Violations(), "");
  }
  // A store that does not go through, and was never let through.
  void ExpectRefused(const TouchResult& touched, FaultOutcome::Kind kind) {
    EXPECT_TRUE(touched.EndedAs(kind)) << touched;
    EXPECT_EQ(FastFaults(), 0u);
    EXPECT_EQ(vm_.Violations(), "");
  }
};

TEST_F(FastFault, AStoreAfterEachHarvestTakesTheShortWayAndIsReported) {
  MapWrittenAndLogged(kGva, kData);
  for (uint64_t round = 0; round < 3; ++round) {
    ExpectStore(kGva, 1);
    EXPECT_EQ(cpu_->Touch(kGva, Write()).faults, 0u);
    EXPECT_TRUE(TakeLog(kData)) << round;
    EXPECT_FALSE(TakeLog(kData)) << round;
  }
}

// The Host has been asked when the page was mapped.
TEST_F(FastFault, TheHostIsNotAsked) {
  MapWrittenAndLogged(kGva, kData);
  int asked = 0;
  vm_.host().SetResolveHook([&](Hva, AccessType) { ++asked; });
  ExpectStore(kGva, 1);
  EXPECT_EQ(asked, 0);
}

TEST_F(FastFault, TheStoreAfterAReadIsFastToo) {
  SetFlags(SlotFlags::kLogDirty);
  Map(kGva, kData, kAll | gpte::kDirty);
  ExpectAt(kGva, kData, Read());
  EXPECT_FALSE(TakeLog(kData));
  ExpectStore(kGva, 1);
  EXPECT_TRUE(TakeLog(kData));
}

// The walk has to set it.
TEST_F(FastFault, NotWhileTheGuestsDirtyBitIsClear) {
  SetFlags(SlotFlags::kLogDirty);
  Map(kGva, kData);
  ExpectAt(kGva, kData, Read());
  ExpectStore(kGva, 0);
  EXPECT_NE(Entry(kGva) & gpte::kDirty, 0u);
}

TEST_F(FastFault, WhereLoggingHasEndedNothingIsMarked) {
  MapWrittenAndLogged(kGva, kData);
  SetFlags(SlotFlags::kNone);
  ExpectStore(kGva, 1);
  SetFlags(SlotFlags::kLogDirty);
  EXPECT_FALSE(TakeLog(kData));
}

TEST_F(FastFault, EachAliasHasItsOwn) {
  constexpr Gva kAlias{0x60'5000};
  Map(kAlias, kData);
  ExpectAt(kAlias, kData, Write());
  MapWrittenAndLogged(kGva, kData);
  ExpectStore(kGva, 1);
  ExpectStore(kAlias, 1);
  EXPECT_TRUE(TakeLog(kData));
}

// ---- What else forbids a store ----

TEST_F(FastFault, NotWhatTheGuestHasReadOnly) {
  Map(kGva, kData, gpte::kUser);
  ExpectAt(kGva, kData, Read());
  SetFlags(SlotFlags::kLogDirty);
  ExpectRefused(cpu_->Touch(kGva, Write()), FaultOutcome::Kind::kGuestFault);
}

TEST_F(FastFault, NotWhatTheHostHasReadOnly) {
  const Hva hva = vm_.memory().slots()[0].hva + ToGpa(kData).value();
  vm_.host().Protect(hva, Protection::kReadOnly);
  SetFlags(SlotFlags::kLogDirty);
  Map(kGva, kData, kAll | gpte::kDirty);
  ExpectAt(kGva, kData, Read());
  ExpectRefused(cpu_->Touch(kGva, Write()), FaultOutcome::Kind::kMemoryFault);
}

TEST_F(FastFault, NotWhatTheSlotHasReadOnlyByNow) {
  MapWrittenAndLogged(kGva, kData);
  SetFlags(SlotFlags::kLogDirty | SlotFlags::kReadOnly);
  ExpectRefused(cpu_->Touch(kGva, Write()), FaultOutcome::Kind::kEmulate);
  SetFlags(SlotFlags::kLogDirty);
  ExpectStore(kGva, 0);
}

// A slot update is published a moment before it has reached the entries.
TEST_F(FastFault, NotInASlotThatIsReadOnlyOrGoesByNow) {
  MapWrittenAndLogged(kGva, kData);
  Access store = Write();
  store.reported_error = pf_error::kPresent | pf_error::kWrite;
  const auto publish = [&](SlotFlags flags, SlotState state) {
    Vm& vm = vm_.mmu().internals();
    MutexLock update(&vm.slots.update_lock());
    const SlotTable& table = vm.slots.Current();
    Memslot slot = *table.FindById(kNormal, kSlot);
    slot.spec.flags = flags;
    slot.state = state;
    vm.slots.Publish(
        table.Replacing(std::make_shared<const Memslot>(std::move(slot))));
  };
  publish(SlotFlags::kLogDirty | SlotFlags::kReadOnly, SlotState::kLive);
  EXPECT_EQ(cpu_->mmu().HandleFault(kGva, store).kind,
            FaultOutcome::Kind::kEmulate);
  publish(SlotFlags::kLogDirty, SlotState::kInvalid);
  EXPECT_EQ(cpu_->mmu().HandleFault(kGva, store).kind,
            FaultOutcome::Kind::kRetry);
  EXPECT_EQ(FastFaults(), 0u);
  publish(SlotFlags::kLogDirty, SlotState::kLive);
  ExpectStore(kGva, 1);
}

// Another CPU's TLB may not know yet what the first fault has done.
TEST_F(FastFault, TheSecondOfTwoOnOnePageFindsItWritable) {
  MapWrittenAndLogged(kGva, kData);
  Vm& vm = vm_.mmu().internals();
  SpteRef leaf;
  {
    const VmLock held(vm);
    leaf = vm.lists.Newest(
        *vm.slot_table()
             .Find(kNormal, kData)
             ->rmaps->Head(kData, Level::k4K, vm.generations.arena_epoch));
    EXPECT_TRUE(vm.arena.Load(leaf).log_protected());
  }
  ExpectStore(kGva, 1);
  const VmLock held(vm);
  EXPECT_TRUE(LiftLogProtection(vm, leaf));
  FlushObligation flush;
  DropEntry(vm, leaf, flush);
  flush.Pay(vm);
  EXPECT_FALSE(LiftLogProtection(vm, leaf));
}

// The page becomes a page table after it was protected for the log.
TEST_F(FastFault, NotWhatHoldsATrackedTableByNow) {
  constexpr Gva kUpper{0x100'0000'0000};
  constexpr Gfn kTable{1200};
  MapWrittenAndLogged(kGva, kTable);
  const uint64_t gpte = EntryFor(kData, kUsed);
  ASSERT_TRUE(vm_.memory().Write64(kNormal, ToGpa(kTable), gpte));
  Map(kUpper, kData);  // makes the tables above
  ASSERT_TRUE(tables_->SetTable(kUpper, Level::k2M, kTable).ok());
  ExpectAt(kUpper, kData);
  const uint64_t before = FastFaults();
  const TouchResult touched = cpu_->Touch(kGva, Write());
  EXPECT_TRUE(touched.hit()) << "its page becomes unsync: " << touched;
  EXPECT_EQ(vm_.mmu().GetStats().unsync_pages, 1u);
  EXPECT_EQ(FastFaults(), before);
  EXPECT_EQ(vm_.Violations(), "");
}

// Nor does a read fault protect it for the log alone.
TEST_F(FastFault, NotWhatWasMappedWhileItHeldATrackedTable) {
  const Gfn table = TableOf(kWindow);
  ExpectAt(kWindow + ToGpa(table).value(), table);
  SetFlags(SlotFlags::kLogDirty);
  vm_.mmu().BumpGeneration();
  ExpectAt(kWindow + ToGpa(table).value(), table);
  EXPECT_TRUE(cpu_->Touch(kWindow + ToGpa(table).value(), Write()).hit());
  EXPECT_EQ(FastFaults(), 0u);
}

TEST_F(FastFault, NotWithoutTheCpusErrorCodeNorForOtherAccesses) {
  MapWrittenAndLogged(kGva, kData);
  ASSERT_TRUE(cpu_->mmu().EnterGuest().resume());
  cpu_->mmu().ExitGuest();
  const auto handle = [&](Access access, std::optional<uint32_t> error) {
    access.reported_error = error;
    EXPECT_TRUE(cpu_->mmu().HandleFault(kGva, access).resume());
    return FastFaults();
  };
  constexpr uint32_t kStore = pf_error::kPresent | pf_error::kWrite;
  EXPECT_EQ(handle(Read(), pf_error::kPresent), 0u);
  EXPECT_EQ(handle(Fetch(), pf_error::kPresent | pf_error::kFetch), 0u);
  EXPECT_EQ(handle(Read(), kStore), 0u) << "the two do not agree";
  EXPECT_EQ(handle(Write(), kStore), 1u);
  TakeLog(kData);
  EXPECT_EQ(handle(Write(), pf_error::kWrite), 1u);
  TakeLog(kData);
  EXPECT_EQ(handle(Write(), std::nullopt), 1u);
  TakeLog(kData);
  EXPECT_EQ(handle(Write(), kStore | pf_error::kProtectionKey), 1u);
}

// The entry becomes writable, which it may be; the store is refused all the
// same.
TEST_F(FastFault, AUserWhoMayNotTouchThePageIsRefusedByTheNextFault) {
  MapWrittenAndLogged(kGva, kData, gpte::kWritable);
  const TouchResult touched = cpu_->Touch(kGva, Write(Privilege::kUser));
  EXPECT_TRUE(touched.EndedAs(FaultOutcome::Kind::kGuestFault)) << touched;
  EXPECT_EQ(touched.outcome.guest_fault.error_code,
            pf_error::kPresent | pf_error::kWrite | pf_error::kUser);
  EXPECT_LE(touched.faults, 2u);
  EXPECT_EQ(vm_.Violations(), "");
}

// ---- What has changed since ----

TEST_F(FastFault, NotThroughAnObsoleteRoot) {
  MapWrittenAndLogged(kGva, kData);
  vm_.mmu().BumpGeneration();
  Access store = Write();
  store.reported_error = pf_error::kPresent | pf_error::kWrite;
  EXPECT_TRUE(cpu_->mmu().HandleFault(kGva, store).resume());
  EXPECT_EQ(FastFaults(), 0u);
  EXPECT_TRUE(TakeLog(kData));
}

TEST_F(FastFault, NotWhatANotifierTook) {
  MapWrittenAndLogged(kGva, kData);
  const HvaRange page{vm_.memory().slots()[0].hva + ToGpa(kData).value(),
                      kPageSize};
  ASSERT_TRUE(vm_.mmu().InvalidateBegin(page).ok());
  ASSERT_TRUE(vm_.mmu().InvalidateEnd(page).ok());
  ExpectStore(kGva, 0);
  EXPECT_TRUE(TakeLog(kData));
}

// The guest makes the page read-only with no trap, and without a flush. A store
// that faults then ends in the guest's own fault handler; that must not be able
// to try again, and find it allowed.
TEST_F(FastFault, NotInAnUnsyncPage) {
  MapWrittenAndLogged(kGva, kData);
  Edit(kGva, EntryFor(kData, kUsed & ~gpte::kWritable));
  const uint64_t before = FastFaults();
  for (int i = 0; i < 2; ++i) {
    EXPECT_TRUE(
        cpu_->Touch(kGva, Write()).EndedAs(FaultOutcome::Kind::kGuestFault))
        << i;
  }
  EXPECT_EQ(FastFaults(), before);
}

TEST_F(FastFault, ASyncTakesWhatTheGuestAllowsNoMore) {
  MapWrittenAndLogged(kGva, kData);
  Edit(kGva, EntryFor(kData, kUsed & ~gpte::kWritable));
  FlushAll();
  Run(*cpu_);
  EXPECT_EQ(vm_.mmu().GetStats().unsync_pages, 0u);
  EXPECT_TRUE(
      cpu_->Touch(kGva, Write()).EndedAs(FaultOutcome::Kind::kGuestFault));
}

TEST_F(FastFault, ASyncKeepsWhatTheGuestStillAllows) {
  constexpr Gva kNeighbour{kGva.value() + kPageSize};
  Map(kNeighbour, kData + 1);
  ExpectAt(kNeighbour, kData + 1, Write());
  MapWrittenAndLogged(kGva, kData);
  Edit(kNeighbour, EntryFor(kData + 2));
  FlushAll();
  Run(*cpu_);
  EXPECT_EQ(vm_.mmu().GetStats().unsync_pages, 0u);
  ExpectStore(kGva, 1);
  EXPECT_TRUE(TakeLog(kData));
}

// ---- Other tables ----

class FastFaultInEveryMode : public FastFault,
                             public ::testing::WithParamInterface<GuestMode> {
 protected:
  FastFaultInEveryMode() : FastFault({}, GetParam()) {}
};

TEST_P(FastFaultInEveryMode, AStoreAfterAHarvestIsFast) {
  MapWrittenAndLogged(kGva, kData);
  ExpectStore(kGva, 1);
  EXPECT_TRUE(TakeLog(kData));
}

// A large page of the guest is mapped by direct pages, in pages of 4K.
TEST_P(FastFaultInEveryMode, APieceOfALargePageIsToo) {
  constexpr Gva kLarge{0x4000'0000};
  ASSERT_TRUE(tables_->Map(kLarge, ToGpa(Gfn(1024)), Level::k2M, kAll).ok());
  const Gva piece = kLarge + 77 * kPageSize;
  ASSERT_TRUE(cpu_->Touch(piece, Write()).hit());
  SetFlags(SlotFlags::kLogDirty);
  ExpectStore(piece, 1);
  EXPECT_TRUE(TakeLog(Gfn(1024 + 77)));
}

INSTANTIATE_TEST_SUITE_P(Modes, FastFaultInEveryMode, kEveryMode, NameOfMode);

TEST(FastFaultWithPagingOff, AStoreAfterAHarvestIsFast) {
  SmallVm vm;
  vm.AddSlot({.id = kSlot, .base = Gfn(0), .pages = 64});
  GuestVcpu& cpu = vm.AddVcpu();
  ASSERT_TRUE(cpu.Touch(Gva(0x7000), Write()).hit());
  ASSERT_TRUE(vm.mmu().SetSlotFlags(kNormal, kSlot, SlotFlags::kLogDirty).ok());
  EXPECT_EQ(cpu.Touch(Gva(0x7000), Write()).faults, 1u);
  EXPECT_EQ(vm.mmu().GetStats().fast_faults, 1u);
  uint64_t word = 0;
  ASSERT_TRUE(
      vm.mmu().GetAndClearDirty(kNormal, kSlot, std::span(&word, 1)).ok());
  EXPECT_EQ(word, uint64_t{1} << 7);
}

}  // namespace
}  // namespace shadowmmu::testing
