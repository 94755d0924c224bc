// TableArena: the memory of all shadow pages: tables, their headers, the marks
// of unsync children, and the translations of indirect ones.
//
//  1. Index 0 is nil. Index i's table lies at page i - 1 of the Host's memory.
//  2. A free table has no present entry, and no marks; but for those that were
//     in use before a Reset: they are cleared when they are taken.
//  3. Take never allocates: check free_tables(), and translations(), first.
//  4. Never more tables are in use than limit() says, which is the capacity, or
//     less: a table beyond it counts as not free.
//
// Locking: the MMU lock held exclusively; held shared, shadow_page.h says what
// guards which part of a page, and Vm::structure_lock who is free. None for
// what never changes after Create (addresses).

#ifndef SHADOWMMU_MMU_TABLE_ARENA_H_
#define SHADOWMMU_MMU_TABLE_ARENA_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "shadowmmu/host.h"
#include "src/base/block_pool.h"
#include "src/base/check.h"
#include "src/base/prefetch.h"
#include "src/mmu/shadow_page.h"
#include "src/mmu/spte.h"

namespace shadowmmu {

// The entries of all tables, by reference: they lie in one row, in the order of
// their references.
class EntryView {
 public:
  explicit EntryView(std::atomic<uint64_t>* entries) : entries_(entries) {}
  std::atomic<uint64_t>& operator[](SpteRef ref) const {
    return entries_[ref.bits() - kFirst];
  }

 private:
  static constexpr uint32_t kFirst = SpteRef(TableIndex{1}, 0).bits();
  std::atomic<uint64_t>* entries_;
};

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
  uint32_t limit() const { return limit_; }
  // Precondition: no less than are in use, no more than the capacity.
  void SetLimit(uint32_t limit);
  // Whatever is in use.
  void SetLimitForTesting(uint32_t limit) {
    free_tables_ += limit - limit_;
    limit_ = limit;
  }
  uint32_t free_tables() const { return free_tables_; }
  uint32_t tables_in_use() const { return limit_ - free_tables_; }
  // No table at or above this index was taken since the last Reset.
  uint32_t end() const { return next_fresh_; }

  // A free table; what its header holds is what was there before.
  TableIndex Take();
  void Put(TableIndex table);
  // Takes all tables and translations back at once, whoever has them: the cost
  // does not depend on how many there are. No CPU may walk one.
  void Reset();

  ShadowPage& Page(TableIndex table) { return pages_[ToInt(table)]; }
  const ShadowPage& Page(TableIndex table) const {
    return pages_[ToInt(table)];
  }
  UnsyncChildren& UnsyncChildrenOf(TableIndex table) {
    return unsync_[ToInt(table)];
  }
  TableIndex IndexOf(const ShadowPage& page) const {
    return static_cast<TableIndex>(&page - pages_);
  }

  // All entries of all tables; good for the arena's life.
  EntryView entries() { return EntryView(entries_); }
  std::atomic<uint64_t>& Entry(SpteRef ref) { return entries()[ref]; }
  const std::atomic<uint64_t>& Entry(SpteRef ref) const {
    return EntryView(entries_)[ref];
  }
  Spte Load(SpteRef ref) const {
    // What the entry links was made before.
    return Spte(Entry(ref).load(std::memory_order_acquire));
  }

  Hpa HpaOf(TableIndex table) const;
  // The table at a physical address, kNil if it is none of ours.
  TableIndex TableAt(Hpa hpa) const {
    const uint64_t page = (hpa - first_hpa_) >> kPageShift;
    if (page < contiguous_tables_) return static_cast<TableIndex>(page + 1);
    return TableAtSlow(hpa);
  }

  // The first gfn that entry `ref` of its page maps, or would map.
  Gfn GfnOf(SpteRef ref) const {
    const ShadowPage& page = Page(ref.table());
    if (page.translations != 0) {
      return translations_[page.translations].gfn[ref.index()];
    }
    return page.gfn + ref.index() * PagesPerEntry(page.role.level());
  }
  void SetGfn(SpteRef ref, Gfn gfn) {
    const ShadowPage& page = Page(ref.table());
    if (page.translations != 0) {
      translations_[page.translations].gfn[ref.index()] = gfn;
      return;
    }
    SMMU_CHECK(GfnOf(ref) == gfn)
        << "a direct page maps by arithmetic: " << GfnOf(ref) << ", not "
        << gfn;
  }

  // Asks the cache for what GfnOf will read.
  void PrefetchGfn(SpteRef ref) const {
    const ShadowPage& page = Page(ref.table());
    if (page.translations != 0) {
      Prefetch(&translations_[page.translations].gfn[ref.index()]);
    }
  }

  BlockPool<TranslationArray>& translations() { return translations_; }
  const BlockPool<TranslationArray>& translations() const {
    return translations_;
  }
  uint64_t bytes() const {
    return translations_.bytes() + header_bytes() + unsync_bytes();
  }

 private:
  static constexpr unsigned kBlockShift = 21;
  static constexpr uint64_t kBlockBytes = uint64_t{1} << kBlockShift;
  static constexpr uint32_t kTablesPerBlock = kBlockBytes / kPageSize;

  TableIndex TableAtSlow(Hpa hpa) const;
  void Clear(TableIndex table);
  uint64_t header_bytes() const {
    return (uint64_t{capacity_} + 1) * sizeof(ShadowPage);
  }

  uint64_t unsync_bytes() const {
    return (uint64_t{capacity_} + 1) * sizeof(UnsyncChildren);
  }

  Host& host_;
  const uint32_t capacity_;
  const SpteFormat& format_;
  TableMemory memory_;
  std::atomic<uint64_t>* entries_ = nullptr;
  ShadowPage* pages_ = nullptr;
  UnsyncChildren* unsync_ = nullptr;  // touched for pages that have marks
  // As many tables as lie in one row of physical memory too, which is all of
  // them with most Hosts; the others are found by their block.
  Hpa first_hpa_;
  uint64_t contiguous_tables_ = 0;
  struct Block {
    Hpa hpa;
    uint32_t number;
  };
  std::vector<Block> blocks_;  // by hpa
  BlockPool<TranslationArray> translations_;
  TableIndex free_ = TableIndex::kNil;
  uint32_t next_fresh_ = 1;
  // Tables from next_fresh_ to here hold what they held before a Reset.
  uint32_t stale_end_ = 1;
  uint32_t limit_ = 0;
  uint32_t free_tables_ = 0;
};

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_TABLE_ARENA_H_
