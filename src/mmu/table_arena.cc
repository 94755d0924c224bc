#include "src/mmu/table_arena.h"

#include <algorithm>
#include <bit>
#include <new>

#include "absl/strings/str_cat.h"
#include "src/base/check.h"
#include "src/base/no_memory.h"

namespace shadowmmu {
namespace {

unsigned TranslationBlockShift(uint32_t capacity) {
  // 4 arrays (16 KiB) a block in a small VM, 512 (2 MiB) in a large one.
  return capacity >= 4096 ? 9 : 2;
}

}  // namespace

TableArena::TableArena(Host& host, uint32_t capacity, const SpteFormat& format)
    : host_(host),
      capacity_(capacity),
      format_(format),
      translations_(host, capacity, TranslationBlockShift(capacity)) {}

TableArena::~TableArena() {
  if (unsync_ != nullptr) host_.Free(unsync_, unsync_bytes());
  if (pages_ != nullptr) host_.Free(pages_, header_bytes());
  if (memory_.base != nullptr) host_.FreeTables(memory_);
}

absl::Status TableArena::Init() {
  absl::StatusOr<TableMemory> memory = host_.AllocateTables(capacity_);
  if (!memory.ok()) return memory.status();
  memory_ = *std::move(memory);
  const uint32_t blocks = (capacity_ + kTablesPerBlock - 1) / kTablesPerBlock;
  if (memory_.base == nullptr || memory_.tables < capacity_ ||
      memory_.block_hpa.size() < blocks) {
    return absl::InvalidArgumentError(absl::StrCat(
        "Host::AllocateTables: ", memory_.tables, " tables in ",
        memory_.block_hpa.size(), " blocks, asked for ", capacity_));
  }
  if (reinterpret_cast<uintptr_t>(memory_.base) % kPageSize != 0) {
    return absl::InvalidArgumentError(
        "Host::AllocateTables: base is not a multiple of 4 KiB");
  }
  for (uint32_t i = 0; i < blocks; ++i) {
    const Hpa hpa = memory_.block_hpa[i];
    if (hpa.value() % kBlockBytes != 0 ||
        format_.TableOf(Spte(hpa.value())) != hpa) {
      return absl::InvalidArgumentError(
          "Host::AllocateTables: block_hpa is not a multiple of 2 MiB below "
          "Format().physical_bits");
    }
    blocks_.push_back({hpa, i});
  }
  std::sort(blocks_.begin(), blocks_.end(),
            [](Block a, Block b) { return a.hpa < b.hpa; });
  for (size_t i = 1; i < blocks_.size(); ++i) {
    if (blocks_[i].hpa == blocks_[i - 1].hpa) {
      return absl::InvalidArgumentError(
          "Host::AllocateTables: two blocks have one block_hpa");
    }
  }
  pages_ = static_cast<ShadowPage*>(host_.AllocateZeroed(header_bytes()));
  unsync_ = static_cast<UnsyncChildren*>(host_.AllocateZeroed(unsync_bytes()));
  if (pages_ == nullptr || unsync_ == nullptr || !translations_.Init()) {
    return NoMemory(
        "table_capacity: no memory for the headers of shadow pages");
  }
  first_hpa_ = memory_.block_hpa[0];
  while (contiguous_tables_ < capacity_ &&
         memory_.block_hpa[contiguous_tables_ / kTablesPerBlock] ==
             first_hpa_ + contiguous_tables_ * kPageSize) {
    contiguous_tables_ =
        std::min<uint64_t>(contiguous_tables_ + kTablesPerBlock, capacity_);
  }
  entries_ = reinterpret_cast<std::atomic<uint64_t>*>(memory_.base);
  limit_ = free_tables_ = capacity_;
  return absl::OkStatus();
}

void TableArena::SetLimit(uint32_t limit) {
  const uint32_t in_use = tables_in_use();
  SMMU_CHECK_LE(in_use, limit);
  SMMU_CHECK_LE(limit, capacity_);
  limit_ = limit;
  free_tables_ = limit - in_use;
}

TableIndex TableArena::Take() {
  SMMU_CHECK_GT(free_tables_, 0u) << "table taken without a reservation";
  --free_tables_;
  if (free_ != TableIndex::kNil) {
    const TableIndex table = free_;
    free_ = Page(table).hash_next;
    return table;
  }
  const auto table = static_cast<TableIndex>(next_fresh_++);
  const bool stale = ToInt(table) < stale_end_;
  if (stale) unsync_[ToInt(table)] = {};
  if (stale || format_.NotPresent() != Spte()) Clear(table);
  return table;
}

void TableArena::Clear(TableIndex table) {
  for (unsigned i = 0; i < kEntriesPerTable; ++i) {
    Entry(SpteRef(table, i))
        .store(format_.NotPresent().bits(), std::memory_order_relaxed);
  }
}

void TableArena::Reset() {
  stale_end_ = std::max(stale_end_, next_fresh_);
  next_fresh_ = 1;
  free_ = TableIndex::kNil;
  free_tables_ = limit_;
  translations_.Reset();
}

void TableArena::Put(TableIndex table) {
  ShadowPage& page = Page(table);
  SMMU_DCHECK_EQ(page.entries, 0u);
  page.state = PageState::kFree;
  page.hash_next = free_;
  free_ = table;
  ++free_tables_;
}

Hpa TableArena::HpaOf(TableIndex table) const {
  const uint32_t page = ToInt(table) - 1;
  return memory_.block_hpa[page / kTablesPerBlock] +
         uint64_t{page % kTablesPerBlock} * kPageSize;
}

TableIndex TableArena::TableAtSlow(Hpa hpa) const {
  const auto above =
      std::upper_bound(blocks_.begin(), blocks_.end(), hpa,
                       [](Hpa at, Block block) { return at < block.hpa; });
  if (above == blocks_.begin()) return TableIndex::kNil;
  const Block& block = *(above - 1);
  if (hpa - block.hpa >= kBlockBytes) return TableIndex::kNil;
  const uint64_t page = uint64_t{block.number} * kTablesPerBlock +
                        ((hpa - block.hpa) >> kPageShift);
  return page < capacity_ ? static_cast<TableIndex>(page + 1)
                          : TableIndex::kNil;
}

}  // namespace shadowmmu
