// TableArena: the memory of all shadow pages: tables, their headers, and the
// translations of indirect ones.
//
//  1. Index 0 is nil. Index i's table lies at page i - 1 of the Host's memory.
//  2. A free table has no present entry.
//  3. Take never allocates: check free_tables(), and translations(), first.
//
// Locking: the MMU lock, but for what never changes after Create (addresses).

#ifndef SHADOWMMU_MMU_TABLE_ARENA_H_
#define SHADOWMMU_MMU_TABLE_ARENA_H_

#include <cstdint>
#include <memory>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "shadowmmu/host.h"
#include "src/base/block_pool.h"
#include "src/mmu/shadow_page.h"
#include "src/mmu/spte.h"

namespace shadowmmu {

class TableArena {
 public:
  TableArena(Host& host, uint32_t capacity, const SpteFormat& format);
  ~TableArena();
  TableArena(const TableArena&) = delete;
  TableArena& operator=(const TableArena&) = delete;
  // Gets the memory. ResourceExhausted, or InvalidArgument for table memory
  // that is not as the Host contract says.
  absl::Status Init();

  uint32_t capacity() const { return capacity_; }
  uint32_t free_tables() const { return free_tables_; }
  uint32_t tables_in_use() const { return capacity_ - free_tables_; }
  // No table at or above this index was ever taken.
  uint32_t end() const { return next_fresh_; }

  // A free table, its header reset but for index-independent links.
  TableIndex Take();
  void Put(TableIndex table);

  ShadowPage& Page(TableIndex table) { return pages_[ToInt(table)]; }
  const ShadowPage& Page(TableIndex table) const {
    return pages_[ToInt(table)];
  }
  TableIndex IndexOf(const ShadowPage& page) const {
    return static_cast<TableIndex>(&page - pages_);
  }

  std::atomic<uint64_t>& Entry(SpteRef ref) {
    return tables_[ToInt(ref.table()) - 1].entry[ref.index()];
  }
  const std::atomic<uint64_t>& Entry(SpteRef ref) const {
    return tables_[ToInt(ref.table()) - 1].entry[ref.index()];
  }
  Spte Load(SpteRef ref) const {
    return Spte(Entry(ref).load(std::memory_order_relaxed));
  }

  Hpa HpaOf(TableIndex table) const;
  // The table at a physical address, kNil if it is none of ours.
  TableIndex TableAt(Hpa hpa) const;

  // The first gfn that entry `ref` of its page maps, or would map.
  Gfn GfnOf(SpteRef ref) const;
  void SetGfn(SpteRef ref, Gfn gfn);

  BlockPool<TranslationArray>& translations() { return translations_; }
  const BlockPool<TranslationArray>& translations() const {
    return translations_;
  }
  uint64_t bytes() const { return translations_.bytes() + header_bytes(); }

 private:
  uint64_t header_bytes() const {
    return (uint64_t{capacity_} + 1) * sizeof(ShadowPage);
  }

  Host& host_;
  const uint32_t capacity_;
  const SpteFormat& format_;
  TableMemory memory_;
  SpteTable* tables_ = nullptr;
  ShadowPage* pages_ = nullptr;
  absl::flat_hash_map<uint64_t, uint32_t> block_at_;  // hpa / 2 MiB -> block
  BlockPool<TranslationArray> translations_;
  TableIndex free_ = TableIndex::kNil;
  uint32_t next_fresh_ = 1;
  uint32_t free_tables_ = 0;
};

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_TABLE_ARENA_H_
