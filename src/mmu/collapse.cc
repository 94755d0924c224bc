#include "src/mmu/collapse.h"

#include <algorithm>
#include <array>
#include <thread>

#include "src/mmu/table_tracking.h"
#include "src/mmu/zap.h"

namespace shadowmmu {
namespace {

// 2 MiB each, between looks at whether somebody waits for the lock.
constexpr uint64_t kChunksBetweenBreaks = 16;
constexpr uint64_t kChunk = PagesPerEntry(Level::k2M);

// The direct page tables that map a 2 MiB, some of them.
class DirectTables {
 public:
  // The caller holds the MMU lock.
  void Collect(Vm& vm, SlotRmaps& rmaps, Gfn chunk);

  auto begin() const { return table_.begin(); }
  auto end() const { return table_.begin() + count_; }
  bool full() const { return count_ == table_.size(); }

 private:
  void Add(TableIndex table) {
    if (!full() && std::find(begin(), end(), table) == end()) {
      table_[count_++] = table;
    }
  }

  std::array<TableIndex, 16> table_{};
  size_t count_ = 0;
};

// Whether what the table maps is one run of host memory, aligned to 2 MiB.
bool IsOneRun(Vm& vm, TableIndex table) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  Pfn run;
  bool any = false;
  for (unsigned i = 0; i < kEntriesPerTable; ++i) {
    const Spte spte = vm.arena.Load(SpteRef(table, i));
    if (!spte.present()) continue;
    const Pfn first = vm.format.PfnOf(spte, Level::k4K) - i;
    if (any && first != run) return false;
    run = first;
    any = true;
  }
  return any && AlignDown(run, Level::k2M) == run;
}

void DirectTables::Collect(Vm& vm, SlotRmaps& rmaps, Gfn chunk) {
  vm.lock.AssertHeld();
  const auto add = [&](SpteRef ref) {
    vm.lock.AssertHeld();
    if (vm.arena.Page(ref.table()).role.direct()) Add(ref.table());
  };
  rmaps.ForEachHead({chunk, kChunk}, vm.generations.arena_epoch,
                    [&](RmapHead& head, Gfn, Level level) {
                      vm.lock.AssertHeld();
                      if (level == Level::k4K) vm.lists.ForEach(head, add);
                    });
}

// Zaps the tables that map the 2 MiB from `chunk` on in 4K pages, where one
// entry might.
void CollapseChunk(Vm& vm, const Memslot& slot, Gfn chunk, ZapBatch& batch)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  if (AnyTableShadowedIn(vm, chunk, Level::k2M)) return;
  for (bool more = true; more;) {
    DirectTables tables;
    tables.Collect(vm, *slot.rmaps, chunk);
    // Beyond those that fit there may be more, if any of these goes.
    more = false;
    for (const TableIndex table : tables) {
      if (!IsOneRun(vm, table)) continue;
      batch.Zap(vm, table);
      more = tables.full();
    }
  }
}

}  // namespace

void CollapseSlot(Vm& vm, const Memslot& slot) {
  const GfnRange gfns = slot.spec.gfns();
  const uint64_t hva_page = slot.spec.hva.value() >> kPageShift;
  const bool aligned = ((gfns.begin.value() ^ hva_page) & (kChunk - 1)) == 0;
  if (!aligned || vm.config.largest_page == Level::k4K) return;
  Gfn chunk = AlignDown(gfns.begin + (kChunk - 1), Level::k2M);
  VmLock held(vm);
  ZapBatch batch;
  for (uint64_t done = 1; chunk + kChunk <= gfns.end();
       chunk += kChunk, ++done) {
    if (!slot.rmaps->any_leaf_sptes(vm.generations.arena_epoch)) break;
    CollapseChunk(vm, slot, chunk, batch);
    if (done % kChunksBetweenBreaks != 0 || !vm.lock.Contended()) continue;
    batch.Commit(vm);
    ++vm.counters.lock_breaks;
    held.Break([] { std::this_thread::yield(); });
  }
  batch.Commit(vm);
}

}  // namespace shadowmmu
