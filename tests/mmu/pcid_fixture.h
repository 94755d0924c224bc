// A vCPU with PCIDs, and what its processes do and see: for pcid_test.cc and
// invpcid_test.cc.
//
// The host's edits of a guest's tables stand for what a CPU may have cached:
// the library does not see them, and goes on with what it has until a flush
// says that it must not.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_TESTS_MMU_PCID_FIXTURE_H_
#define SHADOWMMU_TESTS_MMU_PCID_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "src/mmu/vcpu_state.h"
#include "src/mmu/vm.h"
#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {

// A vCPU with CR4.PCIDE, and processes with tables of their own: process i has
// PCID i + 1, and page kData + i at kGva.
class Pcids : public ::testing::Test {
 protected:
  static constexpr uint64_t kAll = gpte::kWritable | gpte::kUser;
  static constexpr Gva kGva{0x5000};
  static constexpr Gfn kData{1024};
  // What the host makes of kData + i.
  static constexpr uint64_t kEdited = 64;

  Pcids() {
    vm_.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = 2048});
    cpu_ = &vm_.AddVcpu();
  }
  ~Pcids() override { EXPECT_EQ(vm_.Violations(), ""); }

  // The vCPU gets `count` processes, and is in none of them.
  void AddProcesses(int count, GuestMode mode = GuestMode::kFourLevel) {
    for (int i = 0; i < count; ++i) {
      tables_.push_back(
          &vm_.UseTables(*cpu_, {Gfn(16 + 16 * tables_.size()), 16}, mode));
      Map(tables_.size() - 1, kData + (tables_.size() - 1));
    }
    registers_ = cpu_->mmu().registers();
    registers_.cr3 = 0;
    registers_.cr4 |= cr4::kPcide;
    ASSERT_TRUE(cpu_->mmu().SetRegisters(registers_).ok());
  }
  // With no trap.
  void Map(uint64_t i, Gfn gfn) {
    ASSERT_TRUE(tables_[i]->Map(kGva, ToGpa(gfn), Level::k4K, kAll).ok());
  }
  void HostEdits(uint64_t i) { Map(i, kData + i + kEdited); }

  uint64_t Cr3Of(uint64_t i) const {
    return tables_[i]->root().value() | (i + 1);
  }
  void WriteCr3(uint64_t cr3) {
    const absl::Status status = cpu_->mmu().WriteCr3(cr3);
    ASSERT_TRUE(status.ok()) << status;
  }
  void Flushing(uint64_t i) { WriteCr3(Cr3Of(i)); }
  void Keeping(uint64_t i) { WriteCr3(Cr3Of(i) | cr3::kNoFlush); }
  // Process i touches its page; the entry is what it was at first.
  TouchResult ExpectPage(uint64_t i, bool edited = false) {
    const TouchResult touched = cpu_->Touch(kGva, Write());
    EXPECT_TRUE(touched.hit()) << "process " << i << ": " << touched;
    EXPECT_EQ(touched.hpa, ToHpa(vm_.PfnOf(kData + i + (edited ? kEdited : 0))))
        << "process " << i;
    EXPECT_EQ(vm_.Violations(), "");
    return touched;
  }
  // Each process runs once, the last one last.
  void RunAll() {
    for (uint64_t i = 0; i < tables_.size(); ++i) {
      Keeping(i);
      ExpectPage(i);
    }
  }
  absl::Status Invpcid(InvpcidType type, uint64_t pcid, Gva gva = kGva) {
    return cpu_->mmu().Invpcid(type, {.pcid = pcid, .gva = gva});
  }
  // Is the previous root of process i flushed? nullopt: there is none.
  std::optional<bool> Flushed(uint64_t i) {
    Vm& vm = vm_.mmu().internals();
    WriterMutexLock held(&vm.lock);
    const VcpuState& vcpu = *vm.vcpus[0];
    SpinLockHolder roots_held(&vcpu.roots_lock);
    for (const PreviousRoot& previous : vcpu.previous) {
      if (!previous.root.empty() &&
          previous.key.table == ToGfn(tables_[i]->root()) &&
          previous.key.pcid == static_cast<Pcid>(i + 1)) {
        return previous.flushed;
      }
    }
    return std::nullopt;
  }
  uint64_t Hits() { return vm_.mmu().GetStats().root_cache_hits; }

  SmallVm vm_;
  GuestVcpu* cpu_ = nullptr;
  std::vector<GuestTableBuilder*> tables_;
  PagingRegisters registers_;  // CR3 is 0
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_MMU_PCID_FIXTURE_H_
