#include "bench/replay/page_tables.h"

#include "bench/replay/direct_map.h"
#include "tests/harness/guest_tables.h"

namespace shadowmmu::replay {
namespace {

namespace gpte = testing::gpte;

constexpr uint64_t kTableBits = gpte::kPresent | gpte::kWritable | gpte::kUser;

// The first address that a table is for.
Gva BeginOf(const GuestProcess::TableKey& key) {
  return Gva(key.second * BytesPerEntry(key.first) * kEntriesPerTable);
}

// Does a table lead to anything that the process has? A page table to pages, an
// upper one to tables.
bool IsUsed(const GuestProcess& process, const GuestProcess::TableKey& key) {
  const auto& [level, prefix] = key;
  const uint64_t begin = prefix << kIndexBits;
  const uint64_t end = (prefix + 1) << kIndexBits;
  if (level == Level::k4K) {
    const auto page = process.pages.lower_bound(begin);
    return page != process.pages.end() && page->first < end;
  }
  const auto table = process.tables.lower_bound({Below(level), begin});
  return table != process.tables.end() && table->first.first == Below(level) &&
         table->first.second < end;
}

}  // namespace

absl::StatusOr<Gfn> PageTables::NewRoot(uint64_t direct_map_entry) {
  const absl::StatusOr<Gfn> root = memory_->NewFrame();
  if (!root.ok()) return root;
  ++counts_.made;
  const absl::Status stored =
      memory_->StoreEntry(EntryIn(*root, kDirectMapIndex), direct_map_entry);
  if (!stored.ok()) return stored;
  return *root;
}

absl::StatusOr<uint64_t> PageTables::Entry(const GuestProcess& process,
                                           Gva gva) {
  const Gfn table = process.tables.at(GuestProcess::KeyOf(Level::k4K, gva));
  return memory_->ReadEntry(EntryIn(table, IndexAt(gva, Level::k4K)));
}

absl::Status PageTables::SetEntry(GuestProcess* process, Gva gva,
                                  uint64_t entry) {
  const absl::StatusOr<Gfn> table = TableOf(process, gva, Level::k4K);
  if (!table.ok()) return table.status();
  log_->NoteChange(process->id, gva);
  return memory_->StoreEntry(EntryIn(*table, IndexAt(gva, Level::k4K)), entry);
}

// Recursion: at most once a level.
absl::StatusOr<Gfn> PageTables::TableOf(GuestProcess* process, Gva gva,
                                        Level level) {
  if (level == Level::k512G) return process->root;
  const GuestProcess::TableKey key = GuestProcess::KeyOf(level, gva);
  const auto found = process->tables.find(key);
  if (found != process->tables.end()) return found->second;
  const absl::StatusOr<Gfn> parent = TableOf(process, gva, Above(level));
  if (!parent.ok()) return parent;
  const absl::StatusOr<Gfn> table = memory_->NewFrame();
  if (!table.ok()) return table;
  ++counts_.made;
  process->tables.emplace(key, *table);
  const absl::Status stored =
      memory_->StoreEntry(EntryIn(*parent, IndexAt(gva, Above(level))),
                          ToGpa(*table).value() | kTableBits);
  if (!stored.ok()) return stored;
  return *table;
}

absl::Status PageTables::TakeUnused(GuestProcess* process, Gva first, Gva last,
                                    std::vector<Gfn>* frames) {
  for (Level level = Level::k4K; level < Level::k512G; level = Above(level)) {
    auto at = process->tables.lower_bound(GuestProcess::KeyOf(level, first));
    const GuestProcess::TableKey end = GuestProcess::KeyOf(level, last);
    while (at != process->tables.end() && at->first <= end) {
      if (IsUsed(*process, at->first)) {
        ++at;
        continue;
      }
      const Gva gva = BeginOf(at->first);
      frames->push_back(at->second);
      at = process->tables.erase(at);
      ++counts_.freed;
      const absl::StatusOr<Gfn> parent = TableOf(process, gva, Above(level));
      if (!parent.ok()) return parent.status();
      absl::Status cleared =
          memory_->StoreEntry(EntryIn(*parent, IndexAt(gva, Above(level))), 0);
      if (!cleared.ok()) return cleared;
    }
  }
  return absl::OkStatus();
}

}  // namespace shadowmmu::replay
