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
//  5. A cache line of buckets carries the arena epoch that it is of: of another
//     one it reads as empty, and is emptied before it is written.
//
// Locking: the MMU lock held exclusively, or shared with Vm::structure_lock.

#ifndef SHADOWMMU_MMU_SHADOW_PAGE_TABLE_H_
#define SHADOWMMU_MMU_SHADOW_PAGE_TABLE_H_

#include <array>
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
  void Free(TableIndex table);
  // Forgets all pages at once, at a cost that does not depend on how many there
  // are: what follows is of `arena_epoch`. The arena is reset by the caller.
  void Reset(uint64_t arena_epoch);

  // Calls visit(TableIndex) for each active indirect page that shadows the
  // guest table in `gfn`, obsolete ones included. The callback may change the
  // page's entries, and remove the page itself; not the hash beyond that.
  template <typename Visit>
  void ForEachShadowing(Gfn gfn, Visit visit) const;

  // The same for each active direct page that begins at `gfn`, at any level.
  template <typename Visit>
  void ForEachDirect(Gfn gfn, Visit visit) const;

  TableIndex oldest() const { return oldest_; }
  TableIndex newest() const { return newest_; }
  TableIndex Next(TableIndex table) const {
    return arena_.Page(table).list_next;
  }
  uint64_t active() const { return active_; }
  uint64_t bytes() const { return uint64_t{lines_} * sizeof(BucketLine); }
  uint64_t arena_epoch() const { return arena_epoch_; }

 private:
  template <typename Visit>
  void ForEachOf(Gfn gfn, PageKind kind, Visit visit) const;
  struct alignas(64) BucketLine {
    static constexpr unsigned kBuckets = 14;
    uint64_t arena_epoch;
    std::array<TableIndex, kBuckets> head;
  };
  static_assert(sizeof(BucketLine) == 64);

  static uint64_t Hash(Gfn gfn) { return gfn.value() * 0x9e3779b97f4a7c15u; }
  BucketLine& LineOf(uint64_t hash) const { return line_[hash >> line_shift_]; }
  // Of the bits below those that chose the line.
  unsigned BucketInLine(uint64_t hash) const {
    const auto rest = static_cast<uint32_t>(hash >> (line_shift_ - 32));
    return static_cast<unsigned>(uint64_t{rest} * BucketLine::kBuckets >> 32);
  }
  // The first page of the gfn's bucket.
  TableIndex First(Gfn gfn) const {
    const uint64_t hash = Hash(gfn);
    const BucketLine& line = LineOf(hash);
    return line.arena_epoch == arena_epoch_ ? line.head[BucketInLine(hash)]
                                            : TableIndex::kNil;
  }
  // The bucket, to be written.
  TableIndex& Bucket(Gfn gfn);

  Host& host_;
  TableArena& arena_;
  const uint32_t lines_;
  const unsigned line_shift_;
  uint64_t arena_epoch_ = 1;
  BucketLine* line_ = nullptr;
  TableIndex oldest_ = TableIndex::kNil;
  TableIndex newest_ = TableIndex::kNil;
  uint64_t active_ = 0;
};

template <typename Visit>
void ShadowPageTable::ForEachShadowing(Gfn gfn, Visit visit) const {
  ForEachOf(gfn, PageKind::kIndirect, visit);
}

template <typename Visit>
void ShadowPageTable::ForEachDirect(Gfn gfn, Visit visit) const {
  ForEachOf(gfn, PageKind::kDirect, visit);
}

template <typename Visit>
void ShadowPageTable::ForEachOf(Gfn gfn, PageKind kind, Visit visit) const {
  const bool direct = kind == PageKind::kDirect;
  for (TableIndex table = First(gfn); table != TableIndex::kNil;) {
    const ShadowPage& page = arena_.Page(table);
    const TableIndex next = page.hash_next;
    if (page.gfn == gfn && page.role.direct() == direct) visit(table);
    table = next;
  }
}

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_SHADOW_PAGE_TABLE_H_
