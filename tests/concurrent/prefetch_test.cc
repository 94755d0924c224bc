// Neighbours of a fault are mapped while all that they are made of changes:
// vCPUs on one page table, where the pages of each lie among those of the
// others, remap their pages and flush them; the host moves memory; slots come,
// go and log; shadow pages are invalidated. A neighbour that was mapped from an
// entry or a host page that is no longer there is a word which its vCPU finds
// to be another one than it stored.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <thread>
#include <vector>

#include "tests/harness/rng.h"
#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {
namespace {

constexpr AddressSpace kNormal = AddressSpace::kNormal;
// Of an entry that has been used for writing: it may be prefetched.
constexpr uint64_t kUsed = gpte::kPresent | gpte::kWritable | gpte::kUser |
                           gpte::kAccessed | gpte::kDirty;
constexpr unsigned kVcpus = 3;
constexpr uint32_t kWindow = 8;
// Of one page table: every third one belongs to the same vCPU.
constexpr uint64_t kPages = 96;
constexpr Gva kGva{0x4000'0000};
constexpr GfnRange kTables{Gfn(16), 64};
// The guest's tables, writable, at their own addresses.
constexpr Gva kTableWindow{0x8000'0000};

constexpr SlotSpec kMain{.id = SlotId{0}, .base = Gfn(0), .pages = 2048};
// Comes and goes.
constexpr SlotSpec kGuest{.id = SlotId{7}, .base = Gfn(0x8000), .pages = 8};
// What is mapped: some of it in the slot that goes.
constexpr Gfn kData{1024};
constexpr uint64_t kGfns = 40;
constexpr Gfn Target(uint64_t n) {
  return n % 5 == 4 ? kGuest.base + n / 5 : kData + n;
}

constexpr uint64_t kInvalidations = 80;
// Of pages, by all vCPUs.
constexpr uint64_t kUsesBetween = 40;

class PrefetchThreads : public ::testing::Test {
 protected:
  PrefetchThreads()
      : vm_(SmallVm::Options{.table_capacity = 128, .prefetch = kWindow}) {
    main_ = vm_.AddSlot(kMain);
    guest_ = vm_.AddSlot(kGuest);
    GuestTableBuilder& tables = vm_.UseTables(vm_.AddVcpu(), kTables);
    for (unsigned v = 1; v < kVcpus; ++v) {
      EXPECT_TRUE(
          vm_.AddVcpu().mmu().SetRegisters(LongMode(tables.root())).ok());
    }
    for (uint64_t i = 0; i < kPages; ++i) {
      const Gpa target = ToGpa(Target(i % kGfns));
      EXPECT_TRUE(tables.Map(At(i), target, Level::k4K, kUsed).ok());
      entries_[i] = tables.EntryAddress(At(i), Level::k4K).value();
    }
    for (uint64_t i = 0; i < kTables.pages; ++i) {
      const Gpa table = ToGpa(kTables.begin + i);
      EXPECT_TRUE(
          tables.Map(kTableWindow + table.value(), table, Level::k4K, kUsed)
              .ok());
    }
  }

  static Gva At(uint64_t page) { return kGva + page * kPageSize; }

  // What a vCPU knows of its own pages, and of its own word in every gfn.
  struct Guest {
    std::array<uint64_t, kPages> target;
    std::array<uint64_t, kGfns> stored;
  };
  void RunVcpu(unsigned v);
  void Remap(unsigned v, uint64_t page, uint64_t target, Rng& rng);
  void Use(unsigned v, uint64_t page, const Access& access, uint64_t& stored);
  // The page at `hva` goes to `frame`; which one it was at is returned, with
  // other words in it than any vCPU has stored.
  Frame Move(Hva hva, Frame frame);

  void RunHost();
  void RunSlots();
  // As often as kInvalidations says; the others run until it is over.
  void RunInvalidations();

  SmallVm vm_;
  SlotSpec main_, guest_;
  std::array<Gpa, kPages> entries_;
  std::atomic<bool> done_{false};
  std::atomic<uint64_t> uses_{0};
  std::atomic<uint64_t> hits_{0};
};

void PrefetchThreads::RunVcpu(unsigned v) {
  Rng rng(v);
  Guest guest{};
  for (uint64_t i = 0; i < kPages; ++i) guest.target[i] = i % kGfns;
  while (!done_) {
    const uint64_t page = v + kVcpus * rng.Below(kPages / kVcpus);
    uint64_t& target = guest.target[page];
    if (rng.Below(4) == 0) {
      target = rng.Below(kGfns);
      Remap(v, page, target, rng);
    }
    Use(v, page, rng.Below(2) == 0 ? Read() : Write(), guest.stored[target]);
    uses_.fetch_add(1, std::memory_order_relaxed);
  }
}

// By a store that needs no emulation if the library lets it, and INVLPG.
void PrefetchThreads::Remap(unsigned v, uint64_t page, uint64_t target,
                            Rng& rng) {
  // As kernels clear them, to learn what is used.
  constexpr uint64_t kCleared[] = {0, 0, gpte::kDirty,
                                   gpte::kAccessed | gpte::kDirty};
  const uint64_t entry =
      ToGpa(Target(target)).value() | (kUsed & ~kCleared[rng.Below(4)]);
  const auto bytes = std::as_bytes(std::span(&entry, 1));
  GuestVcpu& cpu = vm_.vcpu(v);
  const Gva window = kTableWindow + entries_[page].value();
  const TouchResult stored = cpu.Touch(window, Write(), [&](Hpa hpa) {
    EXPECT_TRUE(vm_.host().WritePhysical(hpa, bytes));
  });
  ASSERT_NE(stored.kind, TouchResult::Kind::kBroken) << stored;
  if (!stored.hit()) {
    FaultOutcome outcome = FaultOutcome::Retry();
    while (outcome.kind == FaultOutcome::Kind::kRetry) {
      outcome = cpu.mmu().GuestWrite(entries_[page], bytes);
    }
    ASSERT_TRUE(outcome.resume()) << outcome;
  }
  cpu.mmu().Invlpg(At(page));
}

void PrefetchThreads::Use(unsigned v, uint64_t page, const Access& access,
                          uint64_t& stored) {
  const Gva word = At(page) + v * sizeof(stored);
  const TouchResult touched = vm_.vcpu(v).Touch(word, access, [&](Hpa hpa) {
    uint64_t found = 0;
    EXPECT_TRUE(vm_.host().ReadPhysical(
        hpa, std::as_writable_bytes(std::span(&found, 1))));
    EXPECT_EQ(found, stored) << "vCPU " << v << ", page " << page;
    if (access.type != AccessType::kWrite) return;
    ++stored;
    EXPECT_TRUE(
        vm_.host().WritePhysical(hpa, std::as_bytes(std::span(&stored, 1))));
  });
  ASSERT_NE(touched.kind, TouchResult::Kind::kBroken) << touched;
  if (touched.hit()) hits_.fetch_add(1, std::memory_order_relaxed);
}

Frame PrefetchThreads::Move(Hva hva, Frame frame) {
  const Frame old = *vm_.host().FrameAt(hva);
  for (unsigned v = 0; v < kVcpus; ++v) {
    constexpr uint64_t kNever = ~uint64_t{0};
    const uint64_t offset = v * sizeof(kNever);
    std::array<std::byte, sizeof(kNever)> word;
    EXPECT_TRUE(vm_.host().ReadPhysical(ToHpa(ToPfn(old)) + offset, word));
    EXPECT_TRUE(vm_.host().WritePhysical(ToHpa(ToPfn(frame)) + offset, word));
    EXPECT_TRUE(vm_.host().WritePhysical(ToHpa(ToPfn(old)) + offset,
                                         std::as_bytes(std::span(&kNever, 1))));
  }
  vm_.host().Retarget(hva, frame);
  return old;
}

void PrefetchThreads::RunHost() {
  Rng rng(100);
  std::deque<Frame> spare;
  for (uint32_t i = 0; i < 16; ++i) spare.push_back(Frame{6000 + i});
  while (!done_) {
    const Gfn gfn = Target(rng.Below(kGfns));
    const SlotSpec& slot = guest_.gfns().Contains(gfn) ? guest_ : main_;
    const HvaRange page{slot.hva + (gfn - slot.base) * kPageSize, kPageSize};
    ASSERT_TRUE(vm_.mmu().InvalidateBegin(page).ok());
    spare.push_back(Move(page.begin, spare.front()));
    spare.pop_front();
    ASSERT_TRUE(vm_.mmu().InvalidateEnd(page).ok());
    if (rng.Below(4) == 0) vm_.mmu().Age(main_.hvas());
    std::this_thread::yield();
  }
}

void PrefetchThreads::RunSlots() {
  std::vector<uint64_t> words(DirtyBitmapWords(main_.pages));
  while (!done_) {
    ASSERT_TRUE(vm_.mmu().DeleteSlot(kNormal, guest_.id).ok());
    ASSERT_TRUE(
        vm_.mmu().SetSlotFlags(kNormal, main_.id, SlotFlags::kLogDirty).ok());
    ASSERT_TRUE(vm_.mmu().CreateSlot(guest_).ok());
    ASSERT_TRUE(vm_.mmu().GetAndClearDirty(kNormal, main_.id, words).ok());
    ASSERT_TRUE(
        vm_.mmu().SetSlotFlags(kNormal, guest_.id, SlotFlags::kReadOnly).ok());
    std::this_thread::yield();
    ASSERT_TRUE(
        vm_.mmu().SetSlotFlags(kNormal, guest_.id, SlotFlags::kNone).ok());
    ASSERT_TRUE(
        vm_.mmu().SetSlotFlags(kNormal, main_.id, SlotFlags::kNone).ok());
    std::this_thread::yield();
  }
}

void PrefetchThreads::RunInvalidations() {
  Rng rng(200);
  for (uint64_t n = 0; n < kInvalidations; ++n) {
    // The guest has to come so far that there is something to invalidate.
    for (const uint64_t before = uses_; uses_ - before < kUsesBetween;) {
      std::this_thread::yield();
    }
    switch (rng.Below(3)) {
      case 0:
        vm_.mmu().BumpGeneration();
        vm_.mmu().ReclaimObsolete(1 + rng.Below(20));
        break;
      case 1:
        vm_.mmu().InvalidateAll(Strategy::kZapAll);
        break;
      default:
        vm_.mmu().InvalidateAll(Strategy::kObsoleteWalk);
    }
    const AuditReport report = Audit(vm_.mmu());
    EXPECT_TRUE(report.ok()) << report;
  }
}

TEST_F(PrefetchThreads, NeighboursAreWhatTheyAreNowHoweverBusyAllOthersAre) {
  std::vector<std::thread> others;
  for (unsigned v = 0; v < kVcpus; ++v) {
    others.emplace_back([this, v] { RunVcpu(v); });
  }
  others.emplace_back([this] { RunHost(); });
  others.emplace_back([this] { RunSlots(); });
  RunInvalidations();
  done_ = true;
  for (std::thread& thread : others) thread.join();

  EXPECT_GT(hits_.load(), kInvalidations) << "the guest got nowhere";
  EXPECT_GT(vm_.mmu().GetStats().sptes_prefetched, kInvalidations);
  EXPECT_GT(vm_.mmu().GetStats().unsyncs, 0u);
  EXPECT_EQ(vm_.Violations(), "");
}

}  // namespace
}  // namespace shadowmmu::testing
