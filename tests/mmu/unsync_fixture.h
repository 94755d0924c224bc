// A VM whose guest edits its own page tables, through a window that maps all of
// them: for unsync_test.cc, sync_test.cc and sync_switch_test.cc.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_TESTS_MMU_UNSYNC_FIXTURE_H_
#define SHADOWMMU_TESTS_MMU_UNSYNC_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <span>

#include "absl/base/thread_annotations.h"
#include "src/mmu/vcpu_state.h"
#include "src/mmu/vm.h"
#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {

class UnsyncVm : public ::testing::Test {
 protected:
  static constexpr uint64_t kAll = gpte::kWritable | gpte::kUser;
  // Of an entry that has been used for writing.
  static constexpr uint64_t kUsed =
      kAll | gpte::kPresent | gpte::kAccessed | gpte::kDirty;
  static constexpr GfnRange kTables{Gfn(16), 64};
  static constexpr Gfn kData{1024};  // and on, up to the slot's end
  static constexpr uint64_t kPages = 4096;
  // What is mapped here has page tables and directories that the window has
  // not, in every mode.
  static constexpr Gva kGva{0x40'5000};
  // The guest's tables, writable, at their own addresses.
  static constexpr Gva kWindow{0x8000'0000};

  explicit UnsyncVm(SmallVm::Options options = {},
                    GuestMode mode = GuestMode::kFourLevel)
      : vm_(options), mode_(mode) {
    vm_.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = kPages});
    cpu_ = &vm_.AddVcpu();
    tables_ = &vm_.UseTables(*cpu_, kTables, mode);
    for (uint64_t i = 0; i < kTables.pages; ++i) {
      const Gpa table = ToGpa(kTables.begin + i);
      Map(kWindow + table.value(), ToGfn(table), kUsed);
    }
  }
  ~UnsyncVm() override { EXPECT_EQ(vm_.Violations(), ""); }

  // ---- What the test lays out, before it is used ----

  void Map(Gva gva, Gfn gfn, uint64_t bits = kAll) {
    ASSERT_TRUE(tables_->Map(gva, ToGpa(gfn), Level::k4K, bits).ok());
  }
  Gpa EntryAt(Gva gva, Level level = Level::k4K) {
    return tables_->EntryAddress(gva, level).value();
  }
  Gfn TableOf(Gva gva, Level level = Level::k4K) {
    return ToGfn(EntryAt(gva, level));
  }
  uint64_t Entry(Gva gva) { return tables_->Entry(gva, Level::k4K).value(); }
  // The other address space shows the same memory.
  void AddSmmSlot() {
    SlotSpec smm = vm_.memory().slots()[0];
    smm.space = AddressSpace::kSmm;
    vm_.AddSlot(smm);
  }
  // Another vCPU in the same address space, on the same tables.
  GuestVcpu& AddVcpu() {
    GuestVcpu& other = vm_.AddVcpu();
    EXPECT_TRUE(
        other.mmu().SetRegisters(RegistersFor(mode_, tables_->root())).ok());
    return other;
  }

  // ---- What the guest does ----

  static uint64_t EntryFor(Gfn gfn, uint64_t bits = kUsed) {
    return ToGpa(gfn).value() | bits;
  }
  // Stores `value` at `gpa`, which is in a table, through the window.
  TouchResult StoreBy(GuestVcpu& cpu, Gpa gpa, uint64_t value) {
    const auto bytes = std::as_bytes(std::span(&value, 1));
    return cpu.Touch(kWindow + gpa.value(), Write(), [&](Hpa hpa) {
      EXPECT_TRUE(vm_.host().WritePhysical(
          hpa, bytes.first(mode_ == GuestMode::kTwoLevel ? 4 : 8)));
    });
  }
  // The entry of `gva` becomes another, by a store that needs no emulation.
  void Edit(Gva gva, uint64_t entry) {
    const TouchResult stored = StoreBy(*cpu_, EntryAt(gva), entry);
    ASSERT_TRUE(stored.hit()) << gva << ": " << stored;
    EXPECT_EQ(Entry(gva), entry);
  }
  void Edit(Gva gva, Gfn gfn) { Edit(gva, EntryFor(gfn)); }
  // CR3 is loaded with the value that it has.
  void FlushAll(GuestVcpu& cpu) {
    ASSERT_TRUE(cpu.mmu().WriteCr3(cpu.mmu().registers().cr3).ok());
  }
  void FlushAll() { FlushAll(*cpu_); }
  // From then on the tables that lead there are shadowed.
  void MapAndUse(Gva gva, Gfn gfn, const Access& access = Read()) {
    Map(gva, gfn);
    ExpectAt(gva, gfn, access);
  }
  // The vCPU enters, and so does what is asked of it.
  void Run(GuestVcpu& cpu) {
    ASSERT_TRUE(cpu.mmu().EnterGuest().resume());
    cpu.mmu().ExitGuest();
  }

  // ---- What must be ----

  void ExpectAt(GuestVcpu& cpu, Gva gva, Gfn gfn,
                const Access& access = Read()) {
    const TouchResult touched = cpu.Touch(gva, access);
    ASSERT_TRUE(touched.hit()) << gva << ": " << touched;
    EXPECT_EQ(ToPfn(touched.hpa), vm_.PfnOf(gfn)) << gva;
    EXPECT_EQ(vm_.Violations(), "");
  }
  void ExpectAt(Gva gva, Gfn gfn, const Access& access = Read()) {
    ExpectAt(*cpu_, gva, gfn, access);
  }
  void ExpectTrapped(const TouchResult& touched) {
    EXPECT_TRUE(touched.EndedAs(FaultOutcome::Kind::kEmulate)) << touched;
    EXPECT_EQ(touched.outcome.emulate_reason, EmulateReason::kWriteTracked);
  }
  // The pages that are unsync now, and how often one became so, or was synced.
  void ExpectCounts(uint64_t pages, uint64_t unsyncs, uint64_t syncs) {
    const Stats stats = vm_.mmu().GetStats();
    EXPECT_EQ(stats.unsync_pages, pages);
    EXPECT_EQ(stats.unsyncs, unsyncs);
    EXPECT_EQ(stats.syncs, syncs);
    EXPECT_EQ(vm_.Violations(), "");
  }

  // Whether the vCPU has to sync its root before it enters.
  bool AskedToSync(unsigned vcpu) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    return (vm_.mmu().internals().vcpus[vcpu]->requests & request::kSyncRoot) !=
           0;
  }

  SmallVm vm_;
  const GuestMode mode_;
  GuestVcpu* cpu_ = nullptr;
  GuestTableBuilder* tables_ = nullptr;
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_MMU_UNSYNC_FIXTURE_H_
