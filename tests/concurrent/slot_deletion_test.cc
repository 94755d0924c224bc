// A slot goes while others use it, step by step: it is published as INVALID,
// readers drain, what was made from it is invalidated and flushed, and it is
// freed. The deletion is stopped at each step by somebody whom it has to wait
// for: a fault inside the Host, a CPU in the middle of a store, a notifier that
// is next in turn for the MMU lock.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "src/mmu/vm.h"
#include "tests/concurrent/beside.h"
#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {
namespace {

using Kind = FaultOutcome::Kind;

constexpr AddressSpace kNormal = AddressSpace::kNormal;
constexpr SlotId kStaying{0};
constexpr SlotId kGoing{1};
constexpr uint64_t kPages = 16;
constexpr Gfn kFirst{0x1000};  // of the slot that goes
constexpr Gfn kElsewhere{0x8000};
// Pages of it: those below are mapped, this one is faulted on, the next is not.
constexpr uint64_t kMapped = 4;
constexpr uint64_t kHeld = 5;
constexpr uint64_t kFresh = 6;

// vCPUs with paging off: a gva is a gpa.
class SlotDeletion : public ::testing::Test {
 protected:
  SlotDeletion() {
    vm_.AddSlot({.id = kStaying, .base = Gfn(0), .pages = 64});
    slot_ = vm_.AddSlot({.id = kGoing, .base = kFirst, .pages = kPages});
    for (unsigned v = 0; v < 3; ++v) {
      GuestVcpu& cpu = vm_.AddVcpu();
      EXPECT_TRUE(cpu.Touch(Gva(0), Write()).hit());
      for (uint64_t i = 0; i < kMapped; ++i) {
        EXPECT_TRUE(cpu.Touch(At(i), Write()).hit());
      }
    }
  }
  ~SlotDeletion() override {
    vm_.host().SetResolveHook(nullptr);
    vm_.host().SetKickHook(nullptr);
    vm_.host().SetFlushHook(nullptr);
    EXPECT_EQ(vm_.Violations(), "");
  }

  static Gva At(uint64_t page, Gfn first = kFirst) {
    return Gva(ToGpa(first + page).value());
  }
  HvaRange Page(uint64_t page) const {
    return {slot_.hva + page * kPageSize, kPageSize};
  }
  Vm& inside() { return vm_.mmu().internals(); }
  FaultOutcome Fault(unsigned v, Gva gva) {
    return vm_.vcpu(v).mmu().HandleFault(gva, Write());
  }
  bool Live() { return vm_.mmu().FindSlot(kNormal, kGoing).has_value(); }
  bool Invalid() {
    const SlotReader reader(inside().slots);
    const auto slot = reader.table().FindById(kNormal, kGoing);
    return slot != nullptr && !slot->live();
  }
  uint64_t Leaves() {
    const GfnRange gfns{kFirst, kPages};
    uint64_t leaves = 0;
    for (const LeafRecord& leaf : Dump(vm_.mmu()).leaves) {
      leaves += gfns.Contains(leaf.gfn) ? 1 : 0;
    }
    return leaves;
  }

  // How far the deletion has come, when nobody makes it go on.
  struct Look {
    bool invalid = false;  // it is there, and INVALID
    bool dying = false;    // its rmaps are remove-only
    uint64_t sptes = 0;    // on its rmaps
    friend bool operator==(const Look&, const Look&) = default;
  };
  Look LookAtSlot() {
    // Nothing here releases.
    constexpr uint64_t kEpoch = Generations().arena_epoch;
    const SlotReader reader(inside().slots);
    const auto slot = reader.table().FindById(kNormal, kGoing);
    if (slot == nullptr) return {};
    return {.invalid = !slot->live(),
            .dying = slot->rmaps->remove_only(),
            .sptes = slot->rmaps->leaf_sptes(kEpoch)};
  }

  SmallVm vm_;
  SlotSpec slot_;
};

// ---- Readers drain ----

// A fault of vCPU 0 has found the slot as it was, and is held up in the Host;
// an update of the slot, which waits for it, has published what comes next.
class WhileAFaultIsHeldUp : public SlotDeletion {
 protected:
  ~WhileAFaultIsHeldUp() override {
    go_on_ = true;
    fault_.reset();
    update_.reset();
  }

  void HoldUpFault() {
    vm_.host().SetResolveHook([this](Hva hva, AccessType) {
      if (hva != Page(kHeld).begin || inside_.exchange(true)) return;
      Await([this] { return go_on_.load(); });
    });
    fault_.emplace([this] { outcome_ = Fault(0, At(kHeld)); });
    Await([this] { return inside_.load(); });
  }
  void StartUpdate(const std::function<absl::Status()>& update,
                   const std::function<bool()>& published) {
    generation_ = vm_.mmu().generation();
    const uint64_t slots = vm_.mmu().memslot_generation();
    update_.emplace([this, update] { updated_ = update(); });
    Await([&] { return vm_.mmu().memslot_generation() != slots; });
    LetOthersRun();
    EXPECT_TRUE(published());
    EXPECT_FALSE(update_->done()) << "it did not wait for the fault";
  }
  void StartDeletion() {
    StartUpdate(
        [this] {
          return vm_.mmu().DeleteSlot(kNormal, kGoing, SlotZapPolicy::kWalk);
        },
        [this] { return !Live(); });
  }
  void ExpectNothingTakenYet() {
    EXPECT_EQ(vm_.mmu().generation(), generation_);
    EXPECT_EQ(LookAtSlot(), (Look{.invalid = true, .sptes = kMapped}));
    EXPECT_EQ(Leaves(), kMapped);
  }
  void LetGo() {
    go_on_ = true;
    fault_->Join();
    update_->Join();
    EXPECT_TRUE(updated_.ok()) << updated_;
  }
  void ExpectGone() {
    EXPECT_EQ(Leaves(), 0u);
    EXPECT_EQ(vm_.Violations(), "");
    for (const uint64_t page : {uint64_t{0}, kHeld, kFresh}) {
      const TouchResult touched = vm_.vcpu(0).Touch(At(page), Read());
      ASSERT_TRUE(touched.EndedAs(Kind::kEmulate)) << touched;
      EXPECT_EQ(touched.outcome.emulate_reason, EmulateReason::kNoSlot);
    }
    EXPECT_TRUE(vm_.vcpu(0).Touch(Gva(0), Write()).hit());
  }

  FaultOutcome outcome_;
  absl::Status updated_;

 private:
  uint64_t generation_ = 0;
  std::atomic<bool> inside_{false};
  std::atomic<bool> go_on_{false};
  std::optional<Beside> fault_;
  std::optional<Beside> update_;
};

TEST_F(WhileAFaultIsHeldUp, NothingIsTakenAwayYetAndThenWhatItMapsGoesToo) {
  HoldUpFault();
  StartDeletion();
  ExpectNothingTakenYet();
  LetGo();
  // It was there first.
  EXPECT_TRUE(outcome_.resume()) << outcome_;
  ExpectGone();
}

TEST_F(WhileAFaultIsHeldUp, ASlotDoesNotMoveAwayUnderIt) {
  HoldUpFault();
  StartUpdate(
      [this] {
        return vm_.mmu().MoveSlot(kNormal, kGoing, kElsewhere,
                                  SlotZapPolicy::kWalk);
      },
      [this] { return !Live(); });
  ExpectNothingTakenYet();
  LetGo();
  EXPECT_TRUE(outcome_.resume()) << outcome_;
  ExpectGone();
  vm_.memory().MutableSlot(kNormal, kGoing)->base = kElsewhere;
  const TouchResult touched = vm_.vcpu(0).Touch(At(kHeld, kElsewhere), Write());
  ASSERT_TRUE(touched.hit()) << touched;
  EXPECT_EQ(ToPfn(touched.hpa), vm_.PfnOf(kElsewhere + kHeld));
}

TEST_F(WhileAFaultIsHeldUp, ItMayWriteByTheOldFlagsUntilTheUpdateIsOver) {
  HoldUpFault();
  StartUpdate(
      [this] {
        return vm_.mmu().SetSlotFlags(kNormal, kGoing, SlotFlags::kReadOnly);
      },
      [this] {
        return vm_.mmu().FindSlot(kNormal, kGoing)->flags ==
               SlotFlags::kReadOnly;
      });
  LetGo();
  EXPECT_TRUE(outcome_.resume()) << outcome_;
  EXPECT_EQ(Leaves(), kMapped + 1);
  for (const LeafRecord& leaf : Dump(vm_.mmu()).leaves) {
    EXPECT_EQ(leaf.writable, leaf.gfn < kFirst) << leaf;
  }
}

// ---- INVALID: nothing new ----

TEST_F(WhileAFaultIsHeldUp, ALaterFaultIsToldToComeBackAndMapsNothing) {
  HoldUpFault();
  StartDeletion();
  const uint64_t set = vm_.mmu().GetStats().sptes_set;
  for (const uint64_t page : {uint64_t{0}, kHeld, kFresh}) {
    EXPECT_EQ(Fault(1, At(page)).kind, Kind::kRetry) << page;
  }
  std::array<std::byte, 8> bytes{};
  EXPECT_EQ(vm_.mmu().GuestWrite(kNormal, ToGpa(kFirst), bytes).kind,
            Kind::kRetry);
  EXPECT_EQ(vm_.mmu().GetStats().sptes_set, set);
  EXPECT_TRUE(Fault(1, Gva(0x7000)).resume()) << "of the slot that stays";
  ExpectNothingTakenYet();
  LetGo();
  EXPECT_EQ(Fault(1, At(kFresh)).kind, Kind::kEmulate);
  ExpectGone();
}

// Its guest tables are no longer walked, nor made roots of.
TEST_F(WhileAFaultIsHeldUp, ALaterWalkThroughItsTablesIsToldToComeBack) {
  GuestVcpu& walks = vm_.vcpu(1);
  GuestTableBuilder& tables = vm_.UseTables(walks, {Gfn(16), 8});
  constexpr Gva kGva{0x40'0000};
  ASSERT_TRUE(
      tables.Map(kGva, Gpa(0x5000), Level::k4K, gpte::kWritable | gpte::kUser)
          .ok());
  ASSERT_TRUE(walks.mmu().EnterGuest().resume());
  walks.mmu().ExitGuest();
  ASSERT_TRUE(tables.SetTable(kGva, Level::k2M, kFirst + 7).ok());
  HoldUpFault();
  StartDeletion();
  EXPECT_EQ(Fault(1, kGva).kind, Kind::kRetry);
  GuestVcpu& loads = vm_.vcpu(2);
  ASSERT_TRUE(loads.mmu().SetRegisters(LongMode(ToGpa(kFirst + 8))).ok());
  EXPECT_EQ(loads.mmu().EnterGuest().kind, Kind::kRetry);
  EXPECT_EQ(Fault(2, kGva).kind, Kind::kRetry);
  ExpectNothingTakenYet();
  LetGo();
  for (unsigned v = 1; v < 3; ++v) {
    const FaultOutcome outcome = Fault(v, kGva);
    EXPECT_EQ(outcome.kind, Kind::kMemoryFault);
    EXPECT_EQ(outcome.memory_fault_reason,
              MemoryFaultReason::kTableOutsideSlots);
  }
}

// ---- Notifiers find what is left ----

TEST_F(WhileAFaultIsHeldUp, NotifiersFindEverySpteOfTheSlot) {
  HoldUpFault();
  StartDeletion();
  for (uint64_t i = 0; i < kMapped; ++i) {
    EXPECT_TRUE(vm_.mmu().TestAge(Page(i)));
    EXPECT_TRUE(vm_.mmu().Age(Page(i)));
    EXPECT_FALSE(vm_.mmu().Age(Page(i)));
  }
  for (uint64_t i = 0; i < kMapped; ++i) {
    ASSERT_TRUE(vm_.mmu().InvalidateBegin(Page(i)).ok());
    EXPECT_EQ(LookAtSlot().sptes, kMapped - 1 - i);
    ASSERT_TRUE(vm_.mmu().InvalidateEnd(Page(i)).ok());
  }
  EXPECT_EQ(Leaves(), 0u);
  LetGo();
  // The sequence is another: it looked again, and found the slot INVALID.
  EXPECT_EQ(outcome_.kind, Kind::kRetry);
  ExpectGone();
}

// vCPU 1 is in the guest when the slot goes, and stays there.
class WhileACpuIsInTheGuest : public SlotDeletion {
 protected:
  WhileACpuIsInTheGuest() : cpu_(vm_.vcpu(1)) {
    EXPECT_TRUE(cpu_.mmu().EnterGuest().resume());
    EXPECT_EQ(cpu_.cpu().Enter(cpu_.mmu().HardwareState()), "");
    for (uint64_t i = 0; i < kMapped; ++i) {
      EXPECT_TRUE(cpu_.cpu().Access(At(i), Write()).hit());
    }
  }
  ~WhileACpuIsInTheGuest() override { cpu_.mmu().ExitGuest(); }

  // Deletes the slot; `notifier` runs when everything is obsolete and on the
  // rmaps: it waits for the MMU lock when the bump has it, and so comes before
  // the walk.
  void DeleteWith(const std::function<void()>& notifier) {
    std::optional<Beside> beside;
    vm_.host().SetKickHook([&](const VcpuSet&) {
      if (beside) return;
      seen_ = LookAtSlot();
      beside.emplace(notifier);
      Await([&] { return inside().lock.Contended(); });
    });
    EXPECT_TRUE(
        vm_.mmu().DeleteSlot(kNormal, kGoing, SlotZapPolicy::kWalk).ok());
    ASSERT_TRUE(beside.has_value());
    beside->Join();
    EXPECT_EQ(seen_, (Look{.invalid = true, .dying = true, .sptes = kMapped}));
    EXPECT_EQ(Leaves(), 0u);
  }

  GuestVcpu& cpu_;
  Look seen_;
};

TEST_F(WhileACpuIsInTheGuest, WhatIsObsoleteIsStillOld) {
  bool young = false;
  DeleteWith([&] { young = vm_.mmu().TestAge(Page(0)); });
  EXPECT_TRUE(young);
}

TEST_F(WhileACpuIsInTheGuest, WhatIsObsoleteCanBeAged) {
  bool young = false;
  DeleteWith([&] { young = vm_.mmu().Age(Page(kMapped - 1)); });
  EXPECT_TRUE(young);
}

TEST_F(WhileACpuIsInTheGuest, WhatIsObsoleteIsUnmappedAndFlushedByANotifier) {
  std::optional<Look> at_flush;
  vm_.host().SetFlushHook([&](const VcpuSet& set) {
    EXPECT_TRUE(set.Contains(VcpuId{1}));
    if (!at_flush) at_flush = LookAtSlot();
  });
  DeleteWith([&] {
    ASSERT_TRUE(vm_.mmu().InvalidateBegin(Page(0)).ok());
    ASSERT_TRUE(vm_.mmu().InvalidateEnd(Page(0)).ok());
  });
  EXPECT_EQ(at_flush, (Look{.invalid = true, .dying = true, .sptes = 3}))
      << "the first flush is that of the notifier";
}

// ---- Flushed before it is freed ----

// A CPU is in the middle of a store by a translation that it has cached: the
// memory is the guest's until that is over, and nobody's after.
TEST_F(WhileACpuIsInTheGuest, TheDeletionWaitsForAStoreAndNoneComesAfter) {
  const Hva hva = Page(0).begin;
  const Frame frame = *vm_.host().FrameAt(hva);
  std::optional<Beside> deletion;
  const std::array<std::byte, 8> stored{std::byte{1}};
  const CpuResult access = cpu_.cpu().Access(At(0), Write(), [&](Hpa hpa) {
    const uint64_t flushes = inside().tlb_flushes;
    deletion.emplace([&] {
      EXPECT_TRUE(
          vm_.mmu().DeleteSlot(kNormal, kGoing, SlotZapPolicy::kWalk).ok());
    });
    Await([&] { return inside().tlb_flushes != flushes; });
    LetOthersRun();
    EXPECT_FALSE(deletion->done()) << "a CPU still stores into the slot";
    EXPECT_TRUE(Invalid()) << "freed before it was flushed";
    EXPECT_TRUE(vm_.host().WritePhysical(hpa, stored));
  });
  ASSERT_TRUE(access.hit()) << access;
  EXPECT_TRUE(access.from_tlb);
  deletion->Join();
  EXPECT_TRUE(vm_.memory().RemoveSlot(kNormal, kGoing));

  // The host has another use for the frame.
  vm_.host().Unmap(hva);
  const std::array<std::byte, 8> reused{std::byte{2}};
  ASSERT_TRUE(vm_.host().WritePhysical(ToHpa(ToPfn(frame)), reused));
  for (uint64_t i = 0; i < kMapped; ++i) {
    EXPECT_FALSE(
        cpu_.cpu()
            .Access(At(i), Write(),
                    [&](Hpa hpa) { vm_.host().WritePhysical(hpa, stored); })
            .hit());
  }
  std::array<std::byte, 8> found{};
  ASSERT_TRUE(vm_.host().ReadPhysical(ToHpa(ToPfn(frame)), found));
  EXPECT_EQ(found, reused);
}

}  // namespace
}  // namespace shadowmmu::testing
