// ShadowPageTable: finds shadow pages, by (gfn, role), by gfn, by age. The
// structure only: what being there means for rmaps and guest tables is
// page_life's.
//
//  1. Every active page is in the hash, once, and in the active list, once.
//  2. The list is in order of mmu_valid_gen: new pages go to its end, and none
//     moves. A walk for obsolete pages may stop at the first current one.
//  3. Find never returns an obsolete page.
//  4. The hash is of the gfn alone, so that all pages of one guest table are in
//     one bucket. Its size is fixed; nothing here allocates after Init.
//
// Locking: the MMU lock held exclusively, or shared with Vm::structure_lock.

#ifndef SHADOWMMU_MMU_SHADOW_PAGE_TABLE_H_
#define SHADOWMMU_MMU_SHADOW_PAGE_TABLE_H_

#include <cstdint>

#include "shadowmmu/host.h"
#include "src/mmu/page_role.h"
#include "src/mmu/table_arena.h"

namespace shadowmmu {

class ShadowPageTable {
 public:
  ShadowPageTable(Host& host, TableArena& arena);
  ~ShadowPageTable();
  [[nodiscard]] bool Init();

  // The active page of this generation, or kNil.
  TableIndex Find(Gfn gfn, PageRole role, uint64_t mmu_valid_gen) const;
  // Takes a table from the arena and makes it an active page. Precondition: the
  // arena has a free table, and for an indirect page a translation array.
  TableIndex Insert(Gfn gfn, PageRole role, uint64_t mmu_valid_gen);
  // Out of the hash and the list; the page becomes kZapped.
  void Remove(TableIndex table);
  // Back to the arena. Precondition: kZapped, no entries, parents or roots.
  void Release(TableIndex table);

  // Calls visit(TableIndex) for each active indirect page that shadows the
  // guest table in `gfn`, obsolete ones included. The callback may change the
  // page's entries, and remove the page itself; not the hash beyond that.
  template <typename Visit>
  void ForEachShadowing(Gfn gfn, Visit visit) const;

  TableIndex oldest() const { return oldest_; }
  TableIndex newest() const { return newest_; }
  TableIndex Next(TableIndex table) const {
    return arena_.Page(table).list_next;
  }
  uint64_t active() const { return active_; }
  uint64_t bytes() const { return uint64_t{buckets_} * sizeof(TableIndex); }

 private:
  TableIndex& Bucket(Gfn gfn) const {
    return bucket_[gfn.value() * 0x9e3779b97f4a7c15u >> bucket_shift_];
  }

  Host& host_;
  TableArena& arena_;
  const uint32_t buckets_;
  const unsigned bucket_shift_;
  TableIndex* bucket_ = nullptr;
  TableIndex oldest_ = TableIndex::kNil;
  TableIndex newest_ = TableIndex::kNil;
  uint64_t active_ = 0;
};

template <typename Visit>
void ShadowPageTable::ForEachShadowing(Gfn gfn, Visit visit) const {
  for (TableIndex table = Bucket(gfn); table != TableIndex::kNil;) {
    const ShadowPage& page = arena_.Page(table);
    const TableIndex next = page.hash_next;
    if (page.gfn == gfn && !page.role.direct()) visit(table);
    table = next;
  }
}

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_SHADOW_PAGE_TABLE_H_
