// Tlb: what one simulated CPU has cached of the tables it walked: translations
// (SDM vol. 3, 4.10.2) and paging-structure caches (4.10.3).
//
// Rules:
//  1. Nothing is ever dropped but by an explicit flush: a stale entry stays for
//     as long as the manuals let a CPU keep it.
//  2. A translation holds the rights and the dirty state that the walk saw;
//     changing the tables changes nothing here.
//  3. Translations of several sizes may stand for one address, as SDM vol. 3,
//     4.10.2.3 allows; the smallest answers.
//  4. A ranged flush drops what could translate an address of the range and
//     keeps the rest, upper-level entries included. (INVLPG on real CPUs drops
//     all paging-structure caches; the library must not depend on it.)
//
// Thread safety: none; CpuModel holds its lock.

#ifndef SHADOWMMU_TESTS_HARNESS_TLB_H_
#define SHADOWMMU_TESTS_HARNESS_TLB_H_

#include <cstdint>
#include <iosfwd>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "shadowmmu/address.h"
#include "shadowmmu/host.h"

namespace shadowmmu::testing {

// The intersection of the rights of all entries of a walk, and the leaf's key.
struct Rights {
  bool writable = true;
  bool user = true;
  bool executable = true;
  unsigned key = 0;  // protection key of the leaf; 0 above it
  friend bool operator==(const Rights&, const Rights&) = default;
};
// The key is that of `entry`, which lies below what has the rights `above`.
Rights Intersect(const Rights& above, const Rights& entry);

// One cached translation.
struct TlbEntry {
  Gva gva{};  // the first address it translates
  Level level = Level::k4K;
  Pfn pfn{};  // the first frame it maps to
  Rights rights{};
  // The leaf's D bit was set when it was cached: writes need no walk.
  bool dirty = false;
  friend bool operator==(const TlbEntry&, const TlbEntry&) = default;
};
std::ostream& operator<<(std::ostream& os, const TlbEntry& entry);

// One cached entry that points to a table.
struct StructureEntry {
  Gva gva;                   // the first address below it
  Level level = Level::k2M;  // of the entry: its table is one level below
  Hpa table;                 // the table that it points to
  Rights rights{};           // of it and of all entries above it
};

class Tlb {
 public:
  // The smallest translation of `gva`.
  std::optional<TlbEntry> Find(Gva gva) const;
  // In place of one of the same page and level.
  void Insert(const TlbEntry& entry);

  // The lowest cached entry on the way to `gva`.
  std::optional<StructureEntry> FindStructure(Gva gva) const;
  void InsertStructure(const StructureEntry& entry);

  void Flush(FlushRange range);
  // All that stands for one address.
  void FlushPage(Gva gva);

  // All translations, by address, then by level.
  std::vector<TlbEntry> Entries() const;
  // All cached entries of upper levels, by address, then by level.
  std::vector<StructureEntry> Structures() const;

 private:
  // The first address that an entry covers, and its level.
  using Key = std::pair<Gva, Level>;

  absl::flat_hash_map<Key, TlbEntry> entries_;
  absl::flat_hash_map<Key, StructureEntry> structures_;
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_TLB_H_
