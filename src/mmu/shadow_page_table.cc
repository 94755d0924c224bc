#include "src/mmu/shadow_page_table.h"

#include <algorithm>
#include <bit>
#include <new>

#include "src/base/check.h"

namespace shadowmmu {

ShadowPageTable::ShadowPageTable(Host& host, TableArena& arena)
    : host_(host),
      arena_(arena),
      buckets_(std::max(64u, std::bit_ceil(arena.capacity()))),
      bucket_shift_(64 - static_cast<unsigned>(std::countr_zero(buckets_))) {}

ShadowPageTable::~ShadowPageTable() {
  if (bucket_ != nullptr) host_.Free(bucket_, bytes());
}

bool ShadowPageTable::Init() {
  bucket_ = static_cast<TableIndex*>(host_.AllocateZeroed(bytes()));
  return bucket_ != nullptr;
}

TableIndex ShadowPageTable::Find(Gfn gfn, PageRole role,
                                 uint64_t mmu_valid_gen) const {
  for (TableIndex table = Bucket(gfn); table != TableIndex::kNil;) {
    const ShadowPage& page = arena_.Page(table);
    if (page.gfn == gfn && page.role == role &&
        page.mmu_valid_gen == mmu_valid_gen) {
      return table;
    }
    table = page.hash_next;
  }
  return TableIndex::kNil;
}

TableIndex ShadowPageTable::Insert(Gfn gfn, PageRole role,
                                   uint64_t mmu_valid_gen) {
  const TableIndex table = arena_.Take();
  ShadowPage& page = *new (&arena_.Page(table)) ShadowPage;
  page.mmu_valid_gen = mmu_valid_gen;
  page.gfn = gfn;
  page.role = role;
  page.state = PageState::kActive;
  if (!role.direct()) page.translations = arena_.translations().Take();

  TableIndex& bucket = Bucket(gfn);
  page.hash_next = bucket;
  bucket = table;

  page.list_prev = newest_;
  if (newest_ != TableIndex::kNil) {
    SMMU_DCHECK_LE(arena_.Page(newest_).mmu_valid_gen, mmu_valid_gen);
    arena_.Page(newest_).list_next = table;
  } else {
    oldest_ = table;
  }
  newest_ = table;
  ++active_;
  return table;
}

void ShadowPageTable::Remove(TableIndex table) {
  ShadowPage& page = arena_.Page(table);
  SMMU_CHECK(page.state == PageState::kActive) << "zapped twice";
  TableIndex* link = &Bucket(page.gfn);
  while (*link != table) {
    SMMU_CHECK(*link != TableIndex::kNil) << "a page that is not in the hash";
    link = &arena_.Page(*link).hash_next;
  }
  *link = page.hash_next;
  page.hash_next = TableIndex::kNil;

  (page.list_prev == TableIndex::kNil ? oldest_
                                      : arena_.Page(page.list_prev).list_next) =
      page.list_next;
  (page.list_next == TableIndex::kNil ? newest_
                                      : arena_.Page(page.list_next).list_prev) =
      page.list_prev;
  page.list_prev = page.list_next = TableIndex::kNil;
  page.state = PageState::kZapped;
  --active_;
}

void ShadowPageTable::Release(TableIndex table) {
  ShadowPage& page = arena_.Page(table);
  SMMU_CHECK(page.state == PageState::kZapped && page.entries == 0 &&
             page.parents.empty() && page.root_count == 0)
      << "a shadow page freed in use";
  if (page.translations != 0) arena_.translations().Put(page.translations);
  page.translations = 0;
  arena_.Put(table);
}

}  // namespace shadowmmu
