// A vCPU that is about to fault on a page, with all that the fault may need at
// hand, so that it shares the MMU lock: for fault_retries_test.cc and
// stale_faults_test.cc.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_TESTS_MMU_FAULT_RETRIES_FIXTURE_H_
#define SHADOWMMU_TESTS_MMU_FAULT_RETRIES_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <numeric>
#include <vector>

#include "src/mmu/make_room.h"
#include "src/mmu/vcpu_state.h"
#include "src/mmu/vm.h"
#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {

class FaultRetries : public ::testing::Test {
 protected:
  static constexpr uint64_t kAll = gpte::kWritable | gpte::kUser;
  static constexpr Gva kGva{0x4000'0000};
  // In the same page directory, under another page table.
  static constexpr Gva kOther{0x4020'0000};
  static constexpr Gfn kData{1024};
  static constexpr GfnRange kTables{Gfn(16), 64};
  // How often one call of HandleFault starts over (src/mmu/fault.cc).
  static constexpr uint64_t kAttempts = 8;

  FaultRetries() : vm_(SmallVm::Options{.time_lock_holds = true}) {
    slot_ = vm_.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = 4096});
    cpu_ = &vm_.AddVcpu();
    tables_ = &vm_.UseTables(*cpu_, kTables);
    Map(kGva, kData);
    Map(kOther, kData + 100);
    EXPECT_TRUE(cpu_->Touch(kOther, Write()).hit());
    MakeRoomForAll();
  }
  ~FaultRetries() override { EXPECT_EQ(vm_.Violations(), ""); }

  void Map(Gva gva, Gfn gfn) {
    ASSERT_TRUE(tables_->Map(gva, ToGpa(gfn), Level::k4K, kAll).ok());
  }
  Vm& inside() { return vm_.mmu().internals(); }
  HvaRange DataPage() const {
    return {slot_.hva + (kData - Gfn(0)) * kPageSize, kPageSize};
  }
  // The vCPU's next fault finds all that it may need, and so shares the lock.
  void MakeRoomForAll() {
    VmLock held(inside());
    EXPECT_TRUE(MakeRoom(inside(), held, inside().vcpus[0]->writer.reserve,
                         {.tables = 16,
                          .translations = 16,
                          .lists = {.descriptors = 32, .place_arrays = 32}}));
  }
  FaultOutcome Fault() { return cpu_->mmu().HandleFault(kGva, Write()); }
  uint64_t Retries() { return vm_.mmu().GetStats().fault_retries; }
  // How often the MMU lock was held exclusively, the look before this one
  // included.
  uint64_t Holds() {
    const Stats stats = vm_.mmu().GetStats();
    return std::accumulate(stats.lock_holds.begin(), stats.lock_holds.end(),
                           uint64_t{0});
  }
  Hpa Root(GuestVcpu& cpu) {
    EXPECT_TRUE(cpu.mmu().EnterGuest().resume());
    const Hpa root = cpu.mmu().HardwareState().root;
    cpu.mmu().ExitGuest();
    return root;
  }
  // Entries of the shadow pages that are of this generation.
  uint64_t EntriesOf(uint64_t generation) {
    uint64_t entries = 0;
    for (const PageRecord& page : Dump(vm_.mmu()).pages) {
      if (page.mmu_valid_gen == generation) entries += page.sptes;
    }
    return entries;
  }
  // The page is mapped once, at what backs it now, by a current shadow page.
  void ExpectMappedOnce(Gfn gfn) {
    std::vector<LeafRecord> found;
    for (const LeafRecord& leaf : Dump(vm_.mmu()).leaves) {
      if (leaf.gfn == gfn) found.push_back(leaf);
    }
    ASSERT_EQ(found.size(), 1u) << gfn;
    EXPECT_FALSE(found[0].obsolete);
    EXPECT_EQ(found[0].pfn, vm_.PfnOf(gfn));
  }

  SmallVm vm_;
  SlotSpec slot_;
  GuestVcpu* cpu_ = nullptr;
  GuestTableBuilder* tables_ = nullptr;
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_MMU_FAULT_RETRIES_FIXTURE_H_
