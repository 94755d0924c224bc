// Faults that hold the MMU lock shared, stopped where another one might come
// between: the test holds a lock that a fault needs, or keeps a CPU in the
// middle of a store that a flush has to wait for. Nothing is left to chance,
// and who waits is seen, not timed.

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <numeric>
#include <optional>
#include <span>

#include "absl/base/thread_annotations.h"
#include "src/mmu/vm.h"
#include "tests/concurrent/beside.h"
#include "tests/harness/small_vm.h"
#include "tests/mmu/unsync_fixture.h"

namespace shadowmmu::testing {
namespace {

// Waits until another thread has `lock`, and for a while in which it comes as
// far as it can.
template <typename Lock>
void AwaitTaken(Lock& lock) {
  Await([&] {
    if (!lock.TryLock()) return true;
    lock.Unlock();
    return false;
  });
  LetOthersRun();
}

// A fault that is under way while the structure lock is the test's.
class StructureHeld {
 public:
  explicit StructureHeld(Vm& vm) : vm_(vm) {}

  // It has to wait, and then goes on.
  void ExpectWaits(GuestVcpu& cpu, Gva gva, const Access& access) const {
    MutexLock structure(&vm_.structure_lock);
    FaultOutcome outcome;
    Beside fault([&] { outcome = cpu.mmu().HandleFault(gva, access); });
    Await([&] { return fault.done() || vm_.structure_lock.Contended(); });
    EXPECT_FALSE(fault.done()) << gva << " needs no structure lock";
    structure.Unlock();
    fault.Join();
    EXPECT_TRUE(outcome.resume()) << outcome;
    structure.Lock();
  }

 private:
  Vm& vm_;
};

class SharedFaults : public UnsyncVm {
 protected:
  using UnsyncVm::UnsyncVm;
  // In the same page directory as kGva, under another page table.
  static constexpr Gva kOther{0x60'0000};

  // A vCPU that has a root, what it needs of the pools, and all the tables down
  // to kOther.
  GuestVcpu& AddReadyVcpu() {
    GuestVcpu& cpu = AddVcpu();
    MakeReady(cpu);
    return cpu;
  }
  void MakeReady(GuestVcpu& cpu) {
    ExpectAt(cpu, kOther, kData + 100);
    // What it reserves for this stays reserved, as nothing is added.
    EXPECT_TRUE(cpu.mmu().HandleFault(kOther, Read()).resume());
  }
  void SetUp() override {
    Map(kOther, kData + 100, kUsed);
    Map(kGva, kData, kUsed);
  }

  Vm& inside() { return vm_.mmu().internals(); }
  SlotRmaps& Rmaps(AddressSpace space = AddressSpace::kNormal)
      ABSL_NO_THREAD_SAFETY_ANALYSIS {
    return *inside().slot_table().Find(space, Gfn(0))->rmaps;
  }
  uint64_t epoch() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    return inside().generations.arena_epoch;
  }
  // A fault that uses the chunk of `gfn` first, and has `lock` by then, leaves
  // it as it is while the lock of its lists is the test's.
  template <typename Lock>
  void ExpectStaysStale(GuestVcpu& cpu, Gva gva, Gfn gfn, Lock& lock) {
    ASSERT_EQ(Rmaps().PeekChunk(gfn, epoch()), nullptr);
    SpinLock& list = Rmaps().LockOf(gfn, Level::k4K);
    FaultOutcome outcome;
    SpinLockHolder held(&list);
    Beside fault([&] { outcome = cpu.mmu().HandleFault(gva, Read()); });
    AwaitTaken(lock);
    EXPECT_EQ(Rmaps().PeekChunk(gfn, epoch()), nullptr);
    list.Unlock();
    fault.Join();
    list.Lock();
    EXPECT_TRUE(outcome.resume()) << outcome;
  }
  ShadowPage& PageOfTable(Gfn gfn) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    TableIndex found = TableIndex::kNil;
    inside().pages.ForEachShadowing(gfn,
                                    [&](TableIndex table) { found = table; });
    return inside().arena.Page(found);
  }
};

TEST_F(SharedFaults, OneAtATimeMakesTables) {
  GuestVcpu& cpu = AddReadyVcpu();
  StructureHeld(inside()).ExpectWaits(cpu, kGva, Read());
  ExpectAt(cpu, kGva, kData);
}

TEST_F(SharedFaults, OneAtATimeMakesTablesUnsync) {
  ExpectAt(kGva, kData);
  const Gva window = kWindow + EntryAt(kGva).value();
  const Gva beside = window + kPageSize;
  ASSERT_TRUE(cpu_->Touch(beside, Read()).hit());
  StructureHeld(inside()).ExpectWaits(*cpu_, window, Write());
  ExpectCounts(1, 1, 0);
}

TEST(SharedLargeFaults, OneAtATimeMapsLargePages) {
  SmallVm vm(SmallVm::Options{.largest = Level::k2M});
  vm.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = 2048});
  GuestVcpu& cpu = vm.AddVcpu();
  const Gva first(0x1000);
  const Gva second(0x20'1000);
  ASSERT_EQ(cpu.Touch(first, Write()).level, Level::k2M);
  StructureHeld(vm.mmu().internals()).ExpectWaits(cpu, second, Write());
  EXPECT_EQ(cpu.Touch(second, Write()).level, Level::k2M);
  EXPECT_EQ(vm.Violations(), "");
}

// One vCPU stores into a page table when another begins to shadow it: nobody
// walks through the new page before that store is over.
TEST_F(SharedFaults, NobodyUsesATableBeforeItsFlushIsPaid) {
  GuestVcpu& shadows = AddReadyVcpu();
  GuestVcpu& follows = AddReadyVcpu();
  const uint64_t entry = EntryFor(kData + 7);
  FaultOutcome shadowed;
  FaultOutcome followed;
  std::optional<Beside> first;
  std::optional<Beside> second;
  const auto while_storing = [&](Hpa hpa) {
    const uint64_t flushes = inside().tlb_flushes;
    first.emplace([&] { shadowed = shadows.mmu().HandleFault(kGva, Read()); });
    Await([&] { return inside().tlb_flushes != flushes; });
    // The flush has begun, and waits for the CPU that stores.
    second.emplace([&] { followed = follows.mmu().HandleFault(kGva, Read()); });
    Await(
        [&] { return second->done() || inside().structure_lock.Contended(); });
    EXPECT_FALSE(second->done()) << "walked through what the guest may write";
    EXPECT_TRUE(
        vm_.host().WritePhysical(hpa, std::as_bytes(std::span(&entry, 1))));
  };
  const Gva window = kWindow + EntryAt(kGva).value();
  ASSERT_TRUE(cpu_->Touch(window, Write(), while_storing).hit());
  first->Join();
  second->Join();
  EXPECT_TRUE(shadowed.resume()) << shadowed;
  EXPECT_TRUE(followed.resume()) << followed;
  ExpectAt(shadows, kGva, kData + 7);
  ExpectAt(follows, kGva, kData + 7);
}

// Rule 3 of table_tracking.h, its first half: who begins to track a table is
// stopped before it has looked at all that maps it, and who maps the table then
// finds the count.
TEST_F(SharedFaults, ATableIsTrackedBeforeItIsWriteProtected) {
  AddSmmSlot();
  const Gfn table = TableOf(kGva);
  const Gva alias = kOther + kPageSize;
  Map(alias, table, kUsed);
  GuestVcpu& shadows = AddReadyVcpu();
  GuestVcpu& maps = AddReadyVcpu();
  // The list that is looked at last.
  SpinLock& last = Rmaps(AddressSpace::kSmm).LockOf(table, Level::k1G);
  const uint64_t before = inside().shadowed_tables[0];
  FaultOutcome shadowed;
  {
    SpinLockHolder held(&last);
    Beside fault([&] { shadowed = shadows.mmu().HandleFault(kGva, Read()); });
    Await([&] {
      return inside().shadowed_tables[0] != before &&
             Rmaps().Tracked(table, epoch()) != 0;
    });
    FaultOutcome mapped;
    Beside([&] { mapped = maps.mmu().HandleFault(alias, Read()); }).Join();
    EXPECT_TRUE(mapped.resume()) << mapped;
    EXPECT_FALSE(fault.done());
    last.Unlock();
    fault.Join();
    last.Lock();
  }
  EXPECT_TRUE(shadowed.resume()) << shadowed;
  EXPECT_EQ(vm_.Violations(), "");
  ExpectAt(maps, alias, table);
}

// Its second half: who maps a table looks at the count once it has the lock of
// the list, however it found it before.
TEST_F(SharedFaults, WhetherATableIsTrackedIsAskedUnderTheLockOfItsList) {
  const Gfn table = TableOf(kGva);
  const Gva alias = kOther + kPageSize;
  Map(alias, table, kUsed);
  ExpectAt(kGva, kData);
  Edit(kGva, kData + 1);  // from now on it is shadowed, and not tracked
  GuestVcpu& maps = AddReadyVcpu();
  SpinLock& page = PageOfTable(TableOf(kOther)).lock;
  SpinLock& list = Rmaps().LockOf(table, Level::k4K);
  std::atomic<uint32_t>& count = Rmaps().Chunk(table, epoch())->Count(table);
  FaultOutcome mapped;
  {
    SpinLockHolder held(&list);
    Beside fault([&] { mapped = maps.mmu().HandleFault(alias, Write()); });
    // It has the lock of its page, and waits for that of the list.
    AwaitTaken(page);
    ++count;
    list.Unlock();
    fault.Join();
    list.Lock();
  }
  ASSERT_EQ(mapped.kind, FaultOutcome::Kind::kEmulate) << mapped;
  EXPECT_EQ(mapped.emulate_reason, EmulateReason::kWriteTracked);
  --count;
}

// A chunk is made fresh on first use, under the lock of its lists: who adds to
// one of them waits for that lock before.
TEST_F(SharedFaults, AChunkIsMadeFreshForAListUnderItsLock) {
  constexpr Gfn kFresh{2048};
  const Gva alias = kOther + kPageSize;
  Map(alias, kFresh, kUsed);
  GuestVcpu& maps = AddReadyVcpu();
  SpinLock& page = PageOfTable(TableOf(kOther)).lock;
  ASSERT_TRUE(Rmaps().EnsureChunk(kFresh));
  ExpectStaysStale(maps, alias, kFresh, page);
  ExpectAt(maps, alias, kFresh);
}

// And who begins to track a table in it.
TEST_F(SharedFaults, AChunkIsMadeFreshForATableUnderItsLock) {
  constexpr Gfn kFresh{2048};
  constexpr Gva kBelow{0x80'0000};
  ASSERT_TRUE(tables_->SetTable(kBelow, Level::k2M, kFresh).ok());
  Map(kBelow, kData, kUsed);
  GuestVcpu& shadows = AddReadyVcpu();
  ASSERT_TRUE(Rmaps().EnsureWriteTrack(kFresh));
  ExpectStaysStale(shadows, kBelow, kFresh, inside().structure_lock);
  ExpectAt(shadows, kBelow, kData);
}

class SharedFaultHolds : public SharedFaults {
 protected:
  SharedFaultHolds()
      : SharedFaults(SmallVm::Options{.time_lock_holds = true}) {}

  // How often the MMU lock was held exclusively, this look at it included: more
  // than once, where room was made.
  uint64_t Holds() {
    const Stats stats = vm_.mmu().GetStats();
    return std::accumulate(stats.lock_holds.begin(), stats.lock_holds.end(),
                           uint64_t{0});
  }
};

// The guest has taken the right to write out of an entry, and not flushed: the
// next fault there takes it out of the spte, which it may not do beside others.
TEST_F(SharedFaultHolds, AFaultThatTakesRightsAwayIsAlone) {
  ExpectAt(kGva, kData, Write());
  Edit(kGva, EntryFor(kData, kUsed & ~gpte::kWritable));
  MakeReady(*cpu_);
  const uint64_t before = Holds();
  const uint64_t flushes = inside().tlb_flushes;
  ASSERT_TRUE(cpu_->mmu().HandleFault(kGva, Read()).resume());
  EXPECT_GE(Holds(), before + 2);
  EXPECT_EQ(inside().tlb_flushes, flushes + 1);
}

// It may give them.
TEST_F(SharedFaultHolds, AFaultThatGivesRightsIsNot) {
  Map(kGva, kData, kUsed & ~(gpte::kDirty | gpte::kWritable));
  ExpectAt(kGva, kData);
  Edit(kGva, EntryFor(kData, kUsed));
  MakeReady(*cpu_);
  const uint64_t before = Holds();
  ASSERT_TRUE(cpu_->mmu().HandleFault(kGva, Write()).resume());
  EXPECT_EQ(Holds(), before + 1);
}

}  // namespace
}  // namespace shadowmmu::testing
