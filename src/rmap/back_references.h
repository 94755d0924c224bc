// BackReferences: for each spte that sits in a chain, its place there.
//
//  1. A table has an array of 512 places, or none. It gets one when the first
//     of its sptes is chained, and gives it back when it is freed.
//  2. A place is to be trusted only while the list's head says chain: that of
//     a single, or of an entry on no list, is whatever was there before. It
//     always names a descriptor that exists, or is nil.
//
// Locking: the places of a list are guarded by the lock that guards the list.
// An array may be given to a table by several threads at once: the first wins.
// Dropping one needs the MMU lock, exclusively.

#ifndef SHADOWMMU_RMAP_BACK_REFERENCES_H_
#define SHADOWMMU_RMAP_BACK_REFERENCES_H_

#include <atomic>
#include <cstdint>

#include "shadowmmu/host.h"
#include "src/base/block_pool.h"
#include "src/base/prefetch.h"
#include "src/rmap/list_reserve.h"
#include "src/rmap/pte_list_desc.h"
#include "src/rmap/spte_ref.h"

namespace shadowmmu {

struct alignas(64) PlaceArray {
  Place place[kEntriesPerTable];
};

class BackReferences {
 public:
  // `most_arrays`: one for each table, and those in reserves.
  BackReferences(Host& host, uint32_t table_capacity, uint32_t most_arrays,
                 unsigned block_shift);
  ~BackReferences();
  [[nodiscard]] bool Init();

  bool Has(TableIndex table) const { return ArrayOf(table) != 0; }
  // The place of `ref`. Precondition: its table has an array.
  Place& Of(SpteRef ref) {
    return pool_[ArrayOf(ref.table())].place[ref.index()];
  }
  const Place& Of(SpteRef ref) const {
    return pool_[ArrayOf(ref.table())].place[ref.index()];
  }

  // The place of `ref`, or whatever was there before; nil: there was never any.
  Place Peek(SpteRef ref) const {
    const uint32_t array = ArrayOf(ref.table());
    return array == 0 ? Place() : pool_[array].place[ref.index()];
  }

  void PrefetchPlace(SpteRef ref) const {
    const uint32_t array = ArrayOf(ref.table());
    if (array != 0) Prefetch(&pool_[array].place[ref.index()]);
  }

  // Gives the table an array if it has none; takes one from the reserve then.
  void Ensure(TableIndex table, ListReserve& reserve) {
    if (!Has(table)) Give(table, reserve);
  }
  // Gives the array back. None of the table's sptes is in a chain any more.
  void Drop(TableIndex table);
  // Takes all arrays back. A table may seem to have one until it Begins.
  void Reset() { pool_.Reset(); }
  // A table comes into use: it has none.
  void Begin(TableIndex table) {
    array_of_[ToInt(table)].store(0, std::memory_order_relaxed);
  }

  BlockPool<PlaceArray>& pool() { return pool_; }
  const BlockPool<PlaceArray>& pool() const { return pool_; }
  uint64_t bytes() const { return pool_.bytes() + directory_bytes(); }

 private:
  uint32_t ArrayOf(TableIndex table) const {
    return array_of_[ToInt(table)].load(std::memory_order_acquire);
  }
  void Give(TableIndex table, ListReserve& reserve);
  uint64_t directory_bytes() const { return uint64_t{tables_} * 4; }

  Host& host_;
  const uint32_t tables_;
  BlockPool<PlaceArray> pool_;
  // By table: index in pool_, 0 is none.
  std::atomic<uint32_t>* array_of_ = nullptr;
};

}  // namespace shadowmmu

#endif  // SHADOWMMU_RMAP_BACK_REFERENCES_H_
