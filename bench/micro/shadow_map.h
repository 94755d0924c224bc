// ShadowMap: a layout, in the shadow tables of a VM: put there and taken off by
// the entry points of src/ that do the work a fault does below its checks.
//
// The `timed` members hold the MMU lock from before the meter starts until
// after it stops, or are handed it; what is inside is said at each.
//
// Thread safety: one thread.

#ifndef SHADOWMMU_BENCH_MICRO_SHADOW_MAP_H_
#define SHADOWMMU_BENCH_MICRO_SHADOW_MAP_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "bench/micro/bench_vm.h"
#include "bench/micro/layout.h"
#include "bench/micro/meter.h"
#include "src/mmu/flush.h"
#include "src/mmu/vm.h"
#include "src/mmu/writer.h"

namespace shadowmmu::bench {

class ShadowMap {
 public:
  // Neither is owned. The VM has the layout's slots, and nothing mapped.
  ShadowMap(const Layout* layout, BenchVm* vm);

  // Puts every spte there, in the layout's order. Timed for each: finding the
  // slot; EnsureChunk, and for an indirect page EnsureWriteTrack for each guest
  // table below the root, as a fault does; MakeRoom for a fault; from the root
  // down EnsureChild three times; SetLeaf; paying the flush, if one is owed.
  // Not timed: the lock, which is held from end to end, and making the root.
  // Where sptes are there already, they become again as they were.
  void Populate(Meter* meter);
  // The same, untimed.
  void Populate();

  // The sptes, in the layout's order. Precondition: all are there.
  std::vector<SpteRef> Refs();
  // How many of them have any of `bits`.
  uint64_t CountWith(uint64_t bits);

  // Takes everything away, untimed, so that the next run begins anew.
  void Clear();

  const Layout& layout() const { return layout_; }
  BenchVm& bench() { return bench_; }
  Vm& vm() { return bench_.vm(); }

 private:
  void MakeRoot(VmLock& held) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm_.lock);
  // Made for each kind, and with the levels as constants, so that little of
  // what is measured is the benchmark itself.
  template <PageKind kind>
  void AddAll(VmLock& held) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm_.lock);
  template <PageKind kind>
  void MakeChunks(const SlotTable& slots, SlotCache& cache,
                  const Layout::Entry& entry) const;
  template <PageKind kind>
  void Add(const Layout::Entry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm_.lock);
  template <PageKind kind, Level level>
  TableIndex Child(TableIndex parent, const Layout::Entry& entry,
                   FlushObligation& flush)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm_.lock);

  const Layout& layout_;
  BenchVm& bench_;
  Vm& vm_;
  std::array<PageRole, ToInt(kRootLevel) + 1> role_;  // by level
  Writer writer_;
  TableIndex root_ = TableIndex::kNil;
};

}  // namespace shadowmmu::bench

#endif  // SHADOWMMU_BENCH_MICRO_SHADOW_MAP_H_
