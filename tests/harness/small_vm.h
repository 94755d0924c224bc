// SmallVm: a VM for unit tests: a TestHost, an Mmu, slots, and up to a few
// GuestVcpus, made in one line each.
//
//   SmallVm vm;
//   vm.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = 512});
//   GuestVcpu& cpu = vm.AddVcpu();
//   ASSERT_TRUE(cpu.Touch(Gva(0x5000), Write()).hit());
//   EXPECT_EQ(vm.Violations(), "");
//
// A slot that names no hva gets host memory of its own; the slot list that the
// test believes in (memory()) is kept in step. Everything CHECKs: a SmallVm
// that cannot be made is a broken test.
//
// Thread safety: making slots and vCPUs needs all else to be over.

#ifndef SHADOWMMU_TESTS_HARNESS_SMALL_VM_H_
#define SHADOWMMU_TESTS_HARNESS_SMALL_VM_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "shadowmmu/audit.h"
#include "shadowmmu/dump.h"
#include "shadowmmu/mmu.h"
#include "shadowmmu/vcpu_mmu.h"
#include "tests/harness/cpu_model.h"
#include "tests/harness/guest_memory.h"
#include "tests/harness/guest_store.h"
#include "tests/harness/guest_tables.h"
#include "tests/harness/guest_vcpu.h"
#include "tests/harness/test_host.h"

namespace shadowmmu::testing {

// Registers of a guest in this mode, with WP, with pages of 4 MiB where entries
// have 4 bytes, and with NX elsewhere.
PagingRegisters RegistersFor(GuestMode mode, Gpa root);
inline PagingRegisters LongMode(Gpa root) {
  return RegistersFor(GuestMode::kFourLevel, root);
}

class SmallVm {
 public:
  struct Options {
    uint32_t frames = 8192;
    uint32_t table_capacity = 512;
    uint32_t max_vcpus = 16;
    uint32_t previous_roots = kMaxPreviousRoots;
    uint32_t page_limit = 0;
    bool unsync = true;
    uint32_t write_flooding = MmuConfig{}.write_flooding;
    uint32_t prefetch = 0;  // each page by its own fault
    AbsentTables absent_tables = AbsentTables::kMemoryFault;
    bool time_lock_holds = false;
    Level largest = Level::k4K;  // page of the host
  };
  SmallVm() : SmallVm(Options{}) {}
  explicit SmallVm(Options options);
  ~SmallVm();

  // Gives the slot host memory if spec.hva is zero, and returns what was made.
  SlotSpec AddSlot(SlotSpec spec);
  // Deletes it in the Mmu and in memory().
  void DeleteSlot(AddressSpace space, SlotId id,
                  SlotZapPolicy policy = SlotZapPolicy::kWalk);

  // A vCPU with paging off, the next free id.
  GuestVcpu& AddVcpu();
  GuestVcpu& vcpu(unsigned i) { return *vcpus_[i]->guest; }
  // Destroys all vCPUs.
  void DropVcpus();

  // A builder of guest tables in `tables`, stored with no trap; and the vCPU
  // switched to them.
  GuestTableBuilder& UseTables(GuestVcpu& vcpu, GfnRange tables,
                               GuestMode mode = GuestMode::kFourLevel);

  Mmu& mmu() { return *mmu_; }
  TestHost& host() { return host_; }
  GuestMemory& memory() { return memory_; }
  UntrackedStore& untracked() { return untracked_; }
  TrackedStore& tracked() { return *tracked_; }

  // The host page behind a gfn of a slot, as the test believes.
  Pfn PfnOf(Gfn gfn, AddressSpace space = AddressSpace::kNormal) const;
  // How many sptes map the gfn.
  size_t RmapLength(Gfn gfn, AddressSpace space = AddressSpace::kNormal) const;
  // What the audit finds, or that it saw fewer than `sptes`; empty: healthy.
  std::string Violations(uint64_t sptes = 0) const;

 private:
  struct Vcpu {
    std::unique_ptr<VcpuMmu> mmu;
    std::unique_ptr<CpuModel> cpu;
    std::unique_ptr<GuestVcpu> guest;
  };

  TestHost host_;
  GuestMemory memory_;
  UntrackedStore untracked_;
  std::unique_ptr<Mmu> mmu_;
  std::unique_ptr<TrackedStore> tracked_;
  std::vector<std::unique_ptr<Vcpu>> vcpus_;
  std::vector<std::unique_ptr<GuestTableBuilder>> builders_;
  uint32_t next_frame_ = 0;
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_SMALL_VM_H_
