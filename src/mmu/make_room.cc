#include "src/mmu/make_room.h"

#include <algorithm>
#include <thread>

#include "src/mmu/previous_roots.h"
#include "src/mmu/zap.h"

namespace shadowmmu {
namespace {

// Evicting a few more than are needed saves flushes.
uint32_t EvictionBatch(const Vm& vm) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  return std::clamp(vm.arena.limit() / 16, 1u, 32u);
}

// What growing cannot help: tables, and descriptors at their limit. A pool that
// is short because others took from it while it grew is grown again.
bool NeedsEviction(Vm& vm, const Needs& needs, const ListNeeds& lacking)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  const auto& descriptors = vm.lists.descriptors();
  return vm.arena.free_tables() < needs.tables ||
         (descriptors.available() < lacking.descriptors &&
          descriptors.at_limit());
}

// Zaps up to `most` pages that are no roots, from `table` on, which is kNil
// afterwards if there are no more.
void EvictSome(Vm& vm, uint32_t most, TableIndex& table)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  ZapBatch batch;
  while (batch.zapped() < most && table != TableIndex::kNil) {
    const TableIndex next = vm.pages.Next(table);
    if (vm.arena.Page(table).root_count == 0) batch.Zap(vm, table);
    table = next;
  }
  vm.counters.pages_evicted += batch.zapped();
  batch.Commit(vm);
}

// Zaps the oldest pages that are no roots until `enough()` holds. False: there
// are no more.
template <typename Enough>
bool Evict(Vm& vm, Enough enough) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  TableIndex table = vm.pages.oldest();
  while (!enough() && table != TableIndex::kNil) {
    EvictSome(vm, EvictionBatch(vm), table);
  }
  return enough();
}

// Adds blocks to `pool` until `count` objects are available; drops the lock
// while it gets each. False: the Host has none; the pool may also be at its
// limit, which is no failure here.
template <typename T, typename PoolOf>
bool Grow(Vm& vm, VmLock& held, uint32_t count, PoolOf pool_of)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  BlockPool<T>& pool = pool_of(vm);
  while (pool.available() < count && !pool.at_limit()) {
    T* block = nullptr;
    held.Break([&] { block = pool.AllocateBlock(); });
    if (block == nullptr) return false;
    if (T* surplus = pool.AddBlock(block)) {
      held.Break([&] { pool.FreeBlock(surplus); });
    }
  }
  return true;
}

}  // namespace

bool MakeRoomSlow(Vm& vm, VmLock& held, const ListReserve& reserve,
                  const Needs& needs) {
  // Growing drops the lock, and others may take what is there, or release all
  // that is in use, the reserve included: hence a loop. It ends, because every
  // round adds a block, evicts, or gives up.
  while (!HasRoom(vm, reserve, needs)) {
    const ListNeeds lacking = PteLists::Lacking(reserve, needs.lists);
    const bool grown = Grow<TranslationArray>(
                           vm, held, needs.translations, [](Vm & v) -> auto& {
                             v.lock.AssertHeld();
                             return v.arena.translations();
                           }) &&
                       Grow<PteListDesc>(
                           vm, held, lacking.descriptors, [](Vm & v) -> auto& {
                             v.lock.AssertHeld();
                             return v.lists.descriptors();
                           }) &&
                       Grow<PlaceArray>(
                           vm, held, lacking.place_arrays, [](Vm & v) -> auto& {
                             v.lock.AssertHeld();
                             return v.lists.back_references().pool();
                           });
    if (!grown) return false;
    const auto enough = [&] {
      vm.lock.AssertHeld();
      return !NeedsEviction(vm, needs, lacking);
    };
    if (Evict(vm, enough)) continue;
    // Roots that vCPUs have left may stand in the way.
    DropPreviousRoots(vm);
    if (!Evict(vm, enough)) return false;
  }
  return true;
}

// The limit comes down with the pages in use, never before them: so that a
// fault which meets it half-way evicts what it needs, and no more.
void SetPageLimit(Vm& vm, uint32_t limit) {
  VmLock held(vm);
  TableIndex table = vm.pages.oldest();
  while (vm.arena.tables_in_use() > limit) {
    const uint32_t excess = vm.arena.tables_in_use() - limit;
    EvictSome(vm, std::min(excess, EvictionBatch(vm)), table);
    vm.arena.SetLimit(std::max(limit, vm.arena.tables_in_use()));
    if (table == TableIndex::kNil) {
      // Roots that vCPUs have left stand in the way.
      DropPreviousRoots(vm);
      table = vm.pages.oldest();
    } else if (vm.lock.Contended()) {
      ++vm.counters.lock_breaks;
      held.Break([] { std::this_thread::yield(); });
      table = vm.pages.oldest();
    }
  }
  vm.arena.SetLimit(limit);
}

}  // namespace shadowmmu
