#include "tests/harness/tlb.h"

#include <algorithm>
#include <ostream>
#include <tuple>

namespace shadowmmu::testing {
namespace {

Gva FirstAddress(Gva gva, Level level) {
  return Gva(gva.value() & ~(BytesPerEntry(level) - 1));
}

// Does an entry of `level` at `gva` translate any page of `range`?
bool Overlaps(Gva gva, Level level, const FlushRange& range) {
  if (range.all()) return true;
  const uint64_t first = gva.value() >> kPageShift;
  const uint64_t begin = range.begin.value() >> kPageShift;
  return begin - first < PagesPerEntry(level) || first - begin < range.pages;
}

template <typename Map>
auto Sorted(const Map& map) {
  std::vector<typename Map::mapped_type> values;
  values.reserve(map.size());
  for (const auto& [key, value] : map) values.push_back(value);
  std::sort(values.begin(), values.end(), [](const auto& a, const auto& b) {
    return std::tuple(a.gva, a.level) < std::tuple(b.gva, b.level);
  });
  return values;
}

}  // namespace

Rights Intersect(const Rights& above, const Rights& entry) {
  return {.writable = above.writable && entry.writable,
          .user = above.user && entry.user,
          .executable = above.executable && entry.executable,
          .key = entry.key};
}

std::ostream& operator<<(std::ostream& os, const TlbEntry& entry) {
  os << entry.gva << " -> " << entry.pfn << " (" << entry.level << ", "
     << (entry.rights.writable ? 'w' : '-') << (entry.rights.user ? 'u' : '-')
     << (entry.rights.executable ? 'x' : '-') << (entry.dirty ? 'd' : '-');
  if (entry.rights.key != 0) os << ", key " << entry.rights.key;
  return os << ")";
}

std::optional<TlbEntry> Tlb::Find(Gva gva) const {
  for (Level level : {Level::k4K, Level::k2M, Level::k1G}) {
    const auto it = entries_.find(Key(FirstAddress(gva, level), level));
    if (it != entries_.end()) return it->second;
  }
  return std::nullopt;
}

void Tlb::Insert(const TlbEntry& entry) {
  entries_.insert_or_assign(Key(entry.gva, entry.level), entry);
}

std::optional<StructureEntry> Tlb::FindStructure(Gva gva) const {
  for (Level level : {Level::k2M, Level::k1G, Level::k512G, Level::k256T}) {
    const auto it = structures_.find(Key(FirstAddress(gva, level), level));
    if (it != structures_.end()) return it->second;
  }
  return std::nullopt;
}

void Tlb::InsertStructure(const StructureEntry& entry) {
  structures_.insert_or_assign(Key(entry.gva, entry.level), entry);
}

void Tlb::Flush(FlushRange range) {
  const auto in_range = [&range](const auto& cached) {
    return Overlaps(cached.first.first, cached.first.second, range);
  };
  absl::erase_if(entries_, in_range);
  absl::erase_if(structures_, in_range);
}

// By key: a CPU may have cached very much.
void Tlb::FlushPage(Gva gva) {
  for (Level level : {Level::k4K, Level::k2M, Level::k1G}) {
    entries_.erase(Key(FirstAddress(gva, level), level));
  }
  for (Level level : {Level::k2M, Level::k1G, Level::k512G, Level::k256T}) {
    structures_.erase(Key(FirstAddress(gva, level), level));
  }
}

std::vector<TlbEntry> Tlb::Entries() const { return Sorted(entries_); }

std::vector<StructureEntry> Tlb::Structures() const {
  return Sorted(structures_);
}

}  // namespace shadowmmu::testing
