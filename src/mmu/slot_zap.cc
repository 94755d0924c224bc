#include "src/mmu/slot_zap.h"

#include <algorithm>
#include <thread>

#include "src/mmu/invalidate.h"
#include "src/mmu/release.h"
#include "src/mmu/spte_sweep.h"
#include "src/mmu/vcpu_state.h"
#include "src/mmu/zap.h"

namespace shadowmmu {
namespace {

// 2 MiB each, between looks at whether somebody waits for the lock.
constexpr uint64_t kChunksBetweenBreaks = 2;
constexpr uint64_t kChunk = PagesPerEntry(Level::k2M);

// ---- Estimates, from docs/benchmarks.md, "Releases" ----

// Of the targeted way: a chunk looked at, one whose rmaps are full, and a guest
// table.
constexpr uint64_t kLookNs = 100;
constexpr uint64_t kFullChunkNs = 5'000;
constexpr uint64_t kTableNs = 3'000;
// A page walked; one that is cleared when it comes into use again.
constexpr uint64_t kWalkPageNs = 2'000;
constexpr uint64_t kClearPageNs = 150;
// A page that had to do with other slots, filled again by the faults of some
// dozens of sptes.
constexpr uint64_t kRefaultPageNs = 20'000;
// A vCPU that is made to leave the guest.
constexpr uint64_t kKickNs = 3'000;

uint64_t VcpusInGuest(const Vm& vm) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  return static_cast<uint64_t>(std::count_if(
      vm.vcpus.begin(), vm.vcpus.end(), [](const VcpuState* vcpu) {
        return vcpu != nullptr &&
               vcpu->mode.load(std::memory_order_relaxed) == VcpuMode::kInGuest;
      }));
}

SlotZapCosts Estimate(const Vm& vm, const SlotRmaps& rmaps)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  const uint64_t epoch = vm.generations.arena_epoch;
  const uint64_t populated = rmaps.populated(epoch);
  const uint64_t tables = rmaps.shadowed_tables(epoch);
  const uint64_t pages = vm.pages.active();
  // About one page for each chunk that is mapped.
  const uint64_t others = pages - std::min(pages, populated + tables);
  const uint64_t kick = kKickNs * VcpusInGuest(vm);
  const uint64_t refault = kRefaultPageNs * others;
  return {.targeted_ns = kLookNs * rmaps.chunks_made() +
                         kFullChunkNs * populated + kTableNs * tables,
          .walk_ns = kick + kWalkPageNs * pages + refault,
          .release_ns = kick + kClearPageNs * pages + refault};
}

SlotZapPolicy Cheapest(const SlotZapCosts& costs) {
  if (costs.targeted_ns <= std::min(costs.walk_ns, costs.release_ns)) {
    return SlotZapPolicy::kTargeted;
  }
  return costs.walk_ns < costs.release_ns ? SlotZapPolicy::kWalk
                                          : SlotZapPolicy::kRelease;
}

uint64_t& CountOf(SlotZapPolicy way, Stats& counters) {
  if (way == SlotZapPolicy::kWalk) return counters.slots_zapped_by_walk;
  if (way == SlotZapPolicy::kRelease) return counters.slots_zapped_by_release;
  return counters.slots_zapped_targeted;
}

// ---- The targeted way ----

// The shadow pages whose guest tables lie in `gfns`, which are of one chunk.
void ZapTables(Vm& vm, const Memslot& slot, GfnRange gfns, ZapBatch& batch)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  const uint64_t epoch = vm.generations.arena_epoch;
  const RmapChunk* chunk = slot.rmaps->PeekChunk(gfns.begin, epoch);
  if (chunk == nullptr) return;
  for (Gfn gfn = gfns.begin; gfn < gfns.end(); gfn += 1) {
    if (chunk->shadowed_tables.load(std::memory_order_relaxed) == 0) return;
    vm.pages.ForEachShadowing(gfn, [&](TableIndex table) {
      vm.lock.AssertHeld();
      if (vm.arena.Page(table).role.space() == slot.spec.space) {
        batch.Zap(vm, table);
      }
    });
  }
}

// The direct pages that cover what an entry of the level above `level` around
// `gfn` would, if they map nothing any more.
void ZapEmptyDirect(Vm& vm, AddressSpace space, Gfn gfn, Level level,
                    ZapBatch& batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  const Gfn first = AlignDown(gfn, Above(level));
  vm.pages.ForEachDirect(first, [&](TableIndex table) {
    vm.lock.AssertHeld();
    const ShadowPage& page = vm.arena.Page(table);
    const bool empty = page.entries == 0 && page.root_count == 0;
    if (empty && page.role.level() == level && page.role.space() == space) {
      batch.Zap(vm, table);
    }
  });
}

// What the slot has in the 2 MiB around `chunk`.
void ZapChunk(Vm& vm, const Memslot& slot, Gfn chunk, ZapBatch& batch)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  const GfnRange all = slot.spec.gfns();
  const Gfn begin = std::max(chunk, all.begin);
  const Gfn end = std::min(chunk + kChunk, all.end());
  const GfnRange gfns{begin, end - begin};
  DropRange(vm, *slot.rmaps, gfns, batch.flush());
  ZapTables(vm, slot, gfns, batch);
  ZapEmptyDirect(vm, slot.spec.space, chunk, Level::k4K, batch);
}

void ZapTargeted(Vm& vm, const Memslot& slot) {
  const GfnRange all = slot.spec.gfns();
  VmLock held(vm);
  ZapBatch batch;
  uint64_t left = slot.rmaps->chunks_made();
  uint64_t done = 0;
  for (Gfn chunk = AlignDown(all.begin, Level::k2M);
       left != 0 && chunk < all.end(); chunk += kChunk) {
    if (slot.rmaps->HasChunk(std::max(chunk, all.begin))) {
      --left;
      ZapChunk(vm, slot, chunk, batch);
    }
    // The last chunk of its GiB, or of the slot.
    const Gfn next = chunk + kChunk;
    if (left == 0 || next >= all.end() || AlignDown(next, Level::k1G) == next) {
      ZapEmptyDirect(vm, slot.spec.space, chunk, Level::k2M, batch);
    }
    if (++done % kChunksBetweenBreaks != 0 || !vm.lock.Contended()) continue;
    batch.Commit(vm);
    ++vm.counters.lock_breaks;
    held.Break([] { std::this_thread::yield(); });
  }
  batch.Commit(vm);
}

SlotZapPolicy Choose(Vm& vm, const Memslot& slot, SlotZapPolicy asked)
    ABSL_LOCKS_EXCLUDED(vm.lock) {
  WriterMutexLock held(&vm.lock);
  const SlotZapCosts costs = Estimate(vm, *slot.rmaps);
  const SlotZapPolicy way =
      asked == SlotZapPolicy::kAuto ? Cheapest(costs) : asked;
  vm.counters.last_slot_zap = {.asked = asked, .way = way, .estimate = costs};
  ++CountOf(way, vm.counters);
  return way;
}

}  // namespace

void ZapSlot(Vm& vm, const Memslot& slot, SlotZapPolicy policy) {
  const SlotZapPolicy way = Choose(vm, slot, policy);
  if (way == SlotZapPolicy::kWalk) {
    Invalidate(vm, Strategy::kObsoleteWalk);
  } else if (way == SlotZapPolicy::kRelease) {
    Release(vm);
  } else {
    ZapTargeted(vm, slot);
  }
}

}  // namespace shadowmmu
