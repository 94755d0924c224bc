// Faults of one VM run beside each other, and beside nothing that takes away:
// one is held up where it holds the MMU lock, and the others go on, or wait.
// And what meets when they do: one entry, one page to be made, tables that map
// each other.

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "src/mmu/vm.h"
#include "tests/concurrent/beside.h"
#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {
namespace {

constexpr uint64_t kAll = gpte::kWritable | gpte::kUser;
constexpr GfnRange kTables{Gfn(16), 64};
constexpr Gfn kData{512};
constexpr Gva At(uint64_t page) { return Gva(0x4000'0000 + page * kPageSize); }

// vCPUs that are threads of one process.
class ParallelFaults : public ::testing::Test {
 protected:
  static constexpr unsigned kVcpus = 4;
  static constexpr uint64_t kPages = 1024;  // two page tables

  ParallelFaults() {
    slot_ = vm_.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = 2048});
    tables_ = &vm_.UseTables(vm_.AddVcpu(), kTables);
    for (uint64_t i = 0; i < kPages; ++i) {
      EXPECT_TRUE(tables_->Map(At(i), ToGpa(kData + i), Level::k4K, kAll).ok());
    }
    for (unsigned v = 1; v < kVcpus; ++v) {
      EXPECT_TRUE(
          vm_.AddVcpu().mmu().SetRegisters(LongMode(tables_->root())).ok());
    }
  }
  ~ParallelFaults() override { EXPECT_EQ(vm_.Violations(), ""); }

  bool Store(unsigned v, uint64_t page) {
    return vm_.vcpu(v).Touch(At(page), Write()).hit();
  }

  // Runs step(v) in a thread for each vCPU, all beginning at once.
  template <typename Step>
  void Together(Step step) {
    testing::Together(kVcpus, step);
  }

  SmallVm vm_;
  SlotSpec slot_;
  GuestTableBuilder* tables_ = nullptr;
};

// A fault reads the guest's entry again while it holds the lock: there it is
// held up.
class HeldUp : public ParallelFaults {
 protected:
  HeldUp() {
    // Everything but the leaves is linked: faults only add.
    // And each vCPU has had a fault, and what one may take.
    for (unsigned v = 0; v < kVcpus; ++v) {
      EXPECT_TRUE(Store(v, v % 2 * 512 + 100 + v));
    }
    const uint64_t entry = tables_->EntryAddress(At(1), Level::k4K)->value();
    const Hva page = slot_.hva + (entry & ~kPageOffsetMask);
    vm_.host().SetReadHook([this, page](Hva hva) {
      const Hva read(hva.value() & ~kPageOffsetMask);
      if (!held_up || read != page || ++reads_ != 2) return;
      inside_ = true;
      while (!go_on_) std::this_thread::yield();
    });
  }
  ~HeldUp() override {
    go_on_ = true;
    if (held_.joinable()) held_.join();
    vm_.host().SetReadHook(nullptr);
  }

  // The second read of the entry, after that of the walk, is under the lock.
  void HoldUp() {
    held_ = std::thread([this] {
      held_up = true;
      EXPECT_TRUE(Store(0, 1));
    });
    while (!inside_) std::this_thread::yield();
  }
  void LetGo() {
    go_on_ = true;
    held_.join();
  }

  // The thread whose fault it is.
  static thread_local bool held_up;
  std::thread held_;
  std::atomic<int> reads_{0};
  std::atomic<bool> inside_{false};
  std::atomic<bool> go_on_{false};
};
thread_local bool HeldUp::held_up = false;

TEST_F(HeldUp, AFaultKeepsNoOtherFaultFromItsEnd) {
  HoldUp();
  // In the same page table, and the same chunk of the rmap; and in others.
  EXPECT_TRUE(Store(1, 2));
  EXPECT_TRUE(Store(2, 700));
  EXPECT_FALSE(go_on_);
  LetGo();
  EXPECT_EQ(vm_.RmapLength(kData + 1), 1u);
}

TEST_F(HeldUp, AFaultKeepsNoAgerFromItsEnd) {
  HoldUp();
  EXPECT_TRUE(vm_.mmu().Age(slot_.hvas()));
  EXPECT_FALSE(go_on_);
}

TEST_F(HeldUp, ABumpWaitsForAFault) {
  HoldUp();
  std::atomic<bool> bumped{false};
  std::thread bump([&] {
    vm_.mmu().BumpGeneration();
    bumped = true;
  });
  while (!vm_.mmu().internals().lock.Contended()) std::this_thread::yield();
  EXPECT_FALSE(bumped);
  LetGo();
  bump.join();
}

TEST_F(ParallelFaults, OnOnePageMakeOneSpte) {
  for (uint64_t page = 0; page < kPages; ++page) {
    Together([&](unsigned v) { EXPECT_TRUE(Store(v, page)); });
    ASSERT_EQ(vm_.RmapLength(kData + page), 1u) << page;
  }
}

TEST_F(ParallelFaults, ThatNeedOnePageMakeItOnce) {
  for (int round = 0; round < 200; ++round) {
    const uint64_t made = vm_.mmu().GetStats().pages_created;
    vm_.mmu().InvalidateAll(Strategy::kZapAll);
    Together([&](unsigned v) { EXPECT_TRUE(Store(v, v * 200)); });
    // A root, two levels, and two page tables.
    ASSERT_EQ(vm_.mmu().GetStats().pages_created - made, 5u) << round;
  }
}

// Each of two page tables maps the other's frame: who faults through one
// write-protects, by making its shadow page, what the other one maps.
TEST_F(ParallelFaults, ThroughTablesThatMapEachOtherEnd) {
  const Gpa entries[] = {*tables_->EntryAddress(At(0), Level::k4K),
                         *tables_->EntryAddress(At(512), Level::k4K)};
  for (unsigned i = 0; i < 2; ++i) {
    const Gpa other = ToGpa(ToGfn(entries[1 - i]));
    ASSERT_TRUE(tables_->Map(At(i * 512 + 7), other, Level::k4K, kAll).ok());
  }
  for (int round = 0; round < 300; ++round) {
    vm_.mmu().InvalidateAll(round % 2 == 0 ? Strategy::kZapAll
                                           : Strategy::kObsoleteWalk);
    Together([&](unsigned v) {
      const uint64_t page = v % 2 * 512;
      EXPECT_TRUE(vm_.vcpu(v).Touch(At(page + v), Read()).hit());
      // Writes the other table: it goes unsync, or the store is emulated.
      const TouchResult written = vm_.vcpu(v).Touch(At(page + 7), Write());
      EXPECT_NE(written.kind, TouchResult::Kind::kBroken) << written;
      EXPECT_TRUE(
          vm_.vcpu(v).mmu().WriteCr3(vm_.vcpu(v).mmu().registers().cr3).ok());
      EXPECT_TRUE(vm_.vcpu(v).Touch(At(page + 8 + v), Read()).hit());
    });
    ASSERT_EQ(vm_.Violations(), "") << round;
  }
}

}  // namespace
}  // namespace shadowmmu::testing
