#include "src/mmu/shadow_page_table.h"

#include <algorithm>
#include <bit>
#include <new>

#include "src/base/check.h"

namespace shadowmmu {

ShadowPageTable::ShadowPageTable(Host& host, TableArena& arena)
    : host_(host),
      arena_(arena),
      lines_(std::max(8u, std::bit_ceil(arena.capacity() / 8))),
      line_shift_(64 - static_cast<unsigned>(std::countr_zero(lines_))) {}

ShadowPageTable::~ShadowPageTable() {
  if (line_ != nullptr) host_.Free(line_, bytes());
}

bool ShadowPageTable::Init() {
  line_ = static_cast<BucketLine*>(host_.AllocateZeroed(bytes()));
  return line_ != nullptr;
}

TableIndex& ShadowPageTable::Bucket(Gfn gfn) {
  const uint64_t hash = Hash(gfn);
  BucketLine& line = LineOf(hash);
  if (line.arena_epoch != arena_epoch_) {
    line = BucketLine{.arena_epoch = arena_epoch_, .head = {}};
  }
  return line.head[BucketInLine(hash)];
}

void ShadowPageTable::Reset(uint64_t arena_epoch) {
  SMMU_CHECK_GT(arena_epoch, arena_epoch_);
  arena_epoch_ = arena_epoch;
  oldest_ = newest_ = TableIndex::kNil;
  active_ = 0;
}

TableIndex ShadowPageTable::Find(Gfn gfn, PageRole role,
                                 uint64_t mmu_valid_gen) const {
  for (TableIndex table = First(gfn); table != TableIndex::kNil;) {
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

void ShadowPageTable::Free(TableIndex table) {
  ShadowPage& page = arena_.Page(table);
  SMMU_CHECK(page.state == PageState::kZapped && page.entries == 0 &&
             page.parents.empty() && page.root_count == 0)
      << "a shadow page freed in use";
  if (page.translations != 0) arena_.translations().Put(page.translations);
  page.translations = 0;
  arena_.Put(table);
}

}  // namespace shadowmmu
