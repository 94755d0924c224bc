// BenchVm: a VM on the DefaultHost, with its inside laid open: the library's
// entry points below the public face take a Vm.
//
// Guest memory that no benchmark touches is not there at all: a slot's hva is
// then only a number, and pfn = hva >> 12 makes its pfns kFirstPfn + gfn.
//
// Thread safety: one thread.

#ifndef SHADOWMMU_BENCH_MICRO_BENCH_VM_H_
#define SHADOWMMU_BENCH_MICRO_BENCH_VM_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bench/micro/layout.h"
#include "shadowmmu/default_host.h"
#include "shadowmmu/mmu.h"
#include "shadowmmu/vcpu_mmu.h"
#include "src/mmu/vm.h"

namespace shadowmmu::bench {

class BenchVm {
 public:
  static constexpr uint32_t kMostVcpus = 16;

  struct Settings {
    uint32_t previous_roots = kMaxPreviousRoots;
    uint32_t write_flooding = MmuConfig{}.write_flooding;
    uint32_t prefetch = 0;  // each page by its own fault
    bool time_lock_holds = false;
  };

  // Room for `tables` shadow pages, and some to spare, so that nothing is ever
  // evicted.
  explicit BenchVm(uint32_t tables) : BenchVm(tables, Settings{}) {}
  BenchVm(uint32_t tables, const Settings& settings);
  // With the slots of a layout.
  explicit BenchVm(const Layout& layout);

  void AddSlot(const SlotSpec& spec);
  // A slot whose memory nobody touches.
  void AddSlot(GfnRange gfns);
  static SlotSpec Untouched(SlotId id, GfnRange gfns);
  // A vCPU with paging off.
  VcpuMmu& AddVcpu();

  // Into the guest and out again, as between any two faults: serves the
  // requests that are left with the vCPU, and loads its root.
  static void PassThroughGuest(VcpuMmu& vcpu);

  Mmu& mmu() { return *mmu_; }
  Vm& vm() { return mmu_->internals(); }

  Stats stats() const { return mmu_->GetStats(); }
  uint64_t leaf_sptes() const { return mmu_->GetStats().leaf_sptes; }
  // Words, if there are not that many leaf sptes; if pages were evicted, which
  // no workload here should cause; or, with --small, if the audit finds damage.
  std::string ExpectSptes(uint64_t sptes) const;

 private:
  DefaultHost host_;
  std::unique_ptr<Mmu> mmu_;
  std::vector<std::unique_ptr<VcpuMmu>> vcpus_;
  uint32_t slots_ = 0;
};

// What the VM has in use, in bytes: shadow pages with their headers,
// translations and back-references, descriptors, rmaps with their directories,
// the hash. Not what its pools hold in reserve.
uint64_t MemoryInUse(Vm& vm);

}  // namespace shadowmmu::bench

#endif  // SHADOWMMU_BENCH_MICRO_BENCH_VM_H_
