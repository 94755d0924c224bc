// A VM under everything at once: vCPUs that touch memory and edit their tables,
// a host that takes memory away and gives it back, slots that come and go,
// invalidations and reclaims. ThreadSanitizer watches; the audit looks when all
// is quiet.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <thread>
#include <vector>

#include "tests/concurrent/rng.h"
#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {
namespace {

constexpr AddressSpace kNormal = AddressSpace::kNormal;
constexpr uint64_t kAll = gpte::kWritable | gpte::kUser;
constexpr unsigned kVcpus = 3;
constexpr uint64_t kPages = 48;
// Shared by all vCPUs, so that their sptes meet in chains.
constexpr Gfn kData{1024};
// Tables of each vCPU, from kTables on; all of them are mapped, at their own
// addresses, from kWindow on.
constexpr Gfn kTables{16};
constexpr uint64_t kTablesPerVcpu = 110;
constexpr Gva kWindow{0x4000'0000};
// The slot that comes and goes.
constexpr SlotSpec kGuestSlot{.id = SlotId{7}, .base = Gfn(0x8000), .pages = 8};

using Modes = std::array<GuestMode, kVcpus>;
constexpr Modes kAllAlike = {GuestMode::kFourLevel, GuestMode::kFourLevel,
                             GuestMode::kFourLevel};
constexpr Modes kAllOthers = {GuestMode::kTwoLevel, GuestMode::kPae,
                              GuestMode::kFiveLevel};

class BusyVm : public ::testing::Test {
 protected:
  explicit BusyVm(const Modes& modes = kAllAlike)
      : vm_(SmallVm::Options{.table_capacity = 128}), modes_(modes) {
    main_ = vm_.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = 4096});
    extra_ = vm_.AddSlot(kGuestSlot);
    for (unsigned v = 0; v < kVcpus; ++v) {
      GuestTableBuilder& tables = vm_.UseTables(
          vm_.AddVcpu(), {kTables + v * kTablesPerVcpu, kTablesPerVcpu},
          modes_[v]);
      for (uint64_t i = 0; i < kPages; ++i) {
        EXPECT_TRUE(tables.Map(At(i), Target(i), Level::k4K, kAll).ok());
      }
      for (uint64_t i = 0; i < kVcpus * kTablesPerVcpu; ++i) {
        const Gpa table = ToGpa(kTables + i);
        EXPECT_TRUE(
            tables.Map(kWindow + table.value(), table, Level::k4K, kAll).ok());
      }
      tables.SetStore(&vm_.tracked());
      tables_.push_back(&tables);
    }
  }

  static Gva At(uint64_t page) { return Gva(page * 0x8000'1000); }
  // Every sixth page lies in the slot that comes and goes.
  static Gpa Target(uint64_t page) {
    return page % 6 == 5 ? ToGpa(kGuestSlot.base + page % 8)
                         : ToGpa(kData + page % 16);
  }

  // An entry for a page, of `v`'s own tables, and what it may become.
  std::span<const std::byte> BytesOf(unsigned v, const uint64_t& gpte) const {
    return std::as_bytes(std::span<const uint64_t, 1>(&gpte, 1))
        .first(modes_[v] == GuestMode::kTwoLevel ? 4 : 8);
  }
  static uint64_t EntryFor(uint64_t page) {
    return Target(page).value() | gpte::kPresent | kAll;
  }
  // The guest edits its table by itself, and flushes as a kernel would, or
  // later.
  void Edit(unsigned v, uint64_t page, Rng& rng) {
    GuestVcpu& cpu = vm_.vcpu(v);
    const uint64_t entry = entry_of_[v][page];
    const uint64_t gpte = EntryFor(rng.Below(kPages));
    const TouchResult stored = cpu.Touch(
        kWindow + entry, Write(),
        [&](Hpa hpa) { vm_.host().WritePhysical(hpa, BytesOf(v, gpte)); });
    ASSERT_NE(stored.kind, TouchResult::Kind::kBroken) << stored;
    switch (rng.Below(3)) {
      case 0:
        cpu.mmu().Invlpg(At(page));
        break;
      case 1:
        ASSERT_TRUE(cpu.mmu().WriteCr3(cpu.mmu().registers().cr3).ok());
        break;
      default:
        break;
    }
  }

  // What a guest does on one vCPU.
  void RunVcpu(unsigned v, int rounds) {
    Rng rng(v);
    GuestVcpu& cpu = vm_.vcpu(v);
    for (int i = 0; i < rounds; ++i) {
      const uint64_t page = rng.Below(kPages);
      if (rng.Below(8) == 0) {
        // Remap a page by a tracked store, as a kernel would.
        const uint64_t gpte = EntryFor(rng.Below(kPages));
        cpu.mmu().GuestWrite(Gpa(entry_of_[v][page]), BytesOf(v, gpte));
        cpu.mmu().Invlpg(At(page));
        continue;
      }
      if (rng.Below(6) == 0) {
        Edit(v, page, rng);
        continue;
      }
      if (rng.Below(32) == 0) {
        PagingRegisters registers = cpu.mmu().registers();
        registers.cr0 ^= cr0::kWp;
        ASSERT_TRUE(cpu.mmu().SetRegisters(registers).ok());
      }
      // Another process, where all vCPUs have the same mode.
      if (modes_ == kAllAlike && rng.Below(8) == 0) {
        const Gpa root = tables_[rng.Below(kVcpus)]->root();
        ASSERT_TRUE(cpu.mmu().WriteCr3(root.value()).ok());
      }
      const TouchResult touched =
          cpu.Touch(At(page), rng.Below(2) == 0 ? Read() : Write());
      ASSERT_NE(touched.kind, TouchResult::Kind::kBroken) << touched;
      if (touched.hit()) hits_.fetch_add(1, std::memory_order_relaxed);
    }
  }

  void FindEntries() {
    for (GuestTableBuilder* tables : tables_) {
      std::vector<uint64_t> entries;
      for (uint64_t i = 0; i < kPages; ++i) {
        entries.push_back(tables->EntryAddress(At(i), Level::k4K)->value());
      }
      entry_of_.push_back(entries);
    }
  }

  // Host, slots and invalidations meet what the vCPUs do.
  void RunEverything();

  SmallVm vm_;
  const Modes modes_;
  SlotSpec main_, extra_;
  std::vector<GuestTableBuilder*> tables_;
  std::vector<std::vector<uint64_t>> entry_of_;
  std::atomic<uint64_t> hits_{0};
};

void BusyVm::RunEverything() {
  FindEntries();
  std::atomic<bool> done{false};
  std::vector<std::thread> vcpus;
  for (unsigned v = 0; v < kVcpus; ++v) {
    vcpus.emplace_back([this, v] { RunVcpu(v, 3000); });
  }
  std::vector<std::thread> others;
  others.emplace_back([&] {  // the host: unmap, retarget, age
    Rng rng(100);
    while (!done) {
      const uint64_t page = rng.Below(16);
      const HvaRange range{
          main_.hva + ((kData - main_.base) + page) * kPageSize, kPageSize};
      ASSERT_TRUE(vm_.mmu().InvalidateBegin(range).ok());
      vm_.host().Retarget(range.begin,
                          Frame{static_cast<uint32_t>(6000 + rng.Below(500))});
      ASSERT_TRUE(vm_.mmu().InvalidateEnd(range).ok());
      // A table stays, and cannot be read for a moment.
      const HvaRange table{main_.hva + (kTables - main_.base +
                                        rng.Below(kVcpus * kTablesPerVcpu)) *
                                           kPageSize,
                           kPageSize};
      ASSERT_TRUE(vm_.mmu().InvalidateBegin(table).ok());
      ASSERT_TRUE(vm_.mmu().InvalidateEnd(table).ok());
      vm_.mmu().Age(main_.hvas());
      std::this_thread::yield();
    }
  });
  others.emplace_back([&] {  // slots
    while (!done) {
      ASSERT_TRUE(vm_.mmu().DeleteSlot(kNormal, extra_.id).ok());
      ASSERT_TRUE(vm_.mmu().CreateSlot(extra_).ok());
      ASSERT_TRUE(vm_.mmu()
                      .SetSlotFlags(kNormal, extra_.id, SlotFlags::kReadOnly)
                      .ok());
      ASSERT_TRUE(
          vm_.mmu().SetSlotFlags(kNormal, extra_.id, SlotFlags::kNone).ok());
      std::this_thread::yield();
    }
  });
  others.emplace_back([&] {  // dirty logging
    std::vector<uint64_t> words(DirtyBitmapWords(main_.pages));
    while (!done) {
      ASSERT_TRUE(
          vm_.mmu().SetSlotFlags(kNormal, main_.id, SlotFlags::kLogDirty).ok());
      for (int i = 0; i < 3; ++i) {
        ASSERT_TRUE(vm_.mmu().GetAndClearDirty(kNormal, main_.id, words).ok());
        std::this_thread::yield();
      }
      ASSERT_TRUE(
          vm_.mmu().SetSlotFlags(kNormal, main_.id, SlotFlags::kNone).ok());
    }
  });
  others.emplace_back([&] {  // invalidations
    Rng rng(200);
    while (!done) {
      switch (rng.Below(5)) {
        case 0:
          vm_.mmu().BumpGeneration();
          break;
        case 1:
          vm_.mmu().ReclaimObsolete(1 + rng.Below(20));
          break;
        case 2:
          vm_.mmu().InvalidateAll(Strategy::kZapAll);
          break;
        case 3: {  // from the least for 16 vCPUs to the capacity
          const auto limit = static_cast<uint32_t>(76 + rng.Below(53));
          ASSERT_TRUE(vm_.mmu().SetPageLimit(limit).ok());
          break;
        }
        default:
          vm_.mmu().InvalidateAll(Strategy::kObsoleteWalk);
      }
      const AuditReport report = Audit(vm_.mmu());
      ASSERT_TRUE(report.ok()) << report;
      std::this_thread::yield();
    }
  });
  for (std::thread& thread : vcpus) thread.join();
  done = true;
  for (std::thread& thread : others) thread.join();

  EXPECT_GT(hits_.load(), 1000u) << "the guest got nowhere";
  EXPECT_GT(vm_.mmu().GetStats().unsyncs, 0u);
  EXPECT_GT(vm_.mmu().GetStats().syncs, 0u);
  EXPECT_EQ(vm_.Violations(), "");
}

TEST_F(BusyVm, StaysSoundWhileVcpusHostSlotsAndInvalidationsMeet) {
  RunEverything();
}

class BusyVmOfOtherModes : public BusyVm {
 protected:
  BusyVmOfOtherModes() : BusyVm(kAllOthers) {}
};

TEST_F(BusyVmOfOtherModes, StaysSoundWhileVcpusHostAndInvalidationsMeet) {
  RunEverything();
}

// Bug 29 of VirtualBox's: a slot goes while vCPUs are in guest mode, and only
// the CPU that removes it flushes.
TEST_F(BusyVm, NoVcpuReachesADeletedSlotHoweverBusyItIs) {
  std::atomic<bool> deleted{false};
  std::atomic<uint64_t> after{0};
  std::vector<std::thread> vcpus;
  for (unsigned v = 0; v < kVcpus; ++v) {
    vcpus.emplace_back([&, v] {
      GuestVcpu& cpu = vm_.vcpu(v);
      for (int rounds = 0; rounds < 200;) {
        const bool was_deleted = deleted.load();
        const TouchResult touched = cpu.Touch(At(5), Read());
        ASSERT_NE(touched.kind, TouchResult::Kind::kBroken) << touched;
        if (!was_deleted) continue;
        ++rounds;
        EXPECT_TRUE(touched.EndedAs(FaultOutcome::Kind::kEmulate)) << touched;
        after.fetch_add(1);
      }
    });
  }
  ASSERT_TRUE(vm_.mmu().DeleteSlot(kNormal, extra_.id).ok());
  deleted = true;
  for (std::thread& thread : vcpus) thread.join();
  EXPECT_EQ(after.load(), 200u * kVcpus);
  EXPECT_EQ(vm_.Violations(), "");
}

}  // namespace
}  // namespace shadowmmu::testing
