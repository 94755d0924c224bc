// A canonical picture of what the tables hold, for people, for tests, and for
// comparing two MMUs that were driven by the same op-stream.

#ifndef SHADOWMMU_DUMP_H_
#define SHADOWMMU_DUMP_H_

#include <compare>
#include <cstdint>
#include <iosfwd>
#include <string>
#include <vector>

#include "shadowmmu/address.h"
#include "shadowmmu/memslot.h"
#include "shadowmmu/mmu.h"

namespace shadowmmu {

// One leaf spte.
struct LeafRecord {
  AddressSpace space = AddressSpace::kNormal;  // of its shadow page's role
  Gfn gfn;                                     // first guest frame it maps
  Level level = Level::k4K;
  Pfn pfn;
  bool writable = false;
  bool user = false;
  bool executable = false;
  unsigned key = 0;  // protection key; counts in long mode, on user pages
  bool accessed = false;
  bool dirty = false;
  bool obsolete = false;  // its shadow page is not of this generation
  friend auto operator<=>(const LeafRecord&, const LeafRecord&) = default;
};

// One shadow page.
struct PageRecord {
  Gfn gfn;
  std::string role;  // as "level 4K, as 0, direct, wux, long, nxe"
  uint64_t mmu_valid_gen = 0;
  uint32_t roots = 0;    // how many vCPUs hold it as root
  uint32_t sptes = 0;    // entries in use
  uint32_t parents = 0;  // entries that point to it
  bool unsync = false;   // the guest may write its table with no trap
};

struct MmuDump {
  uint64_t generation = 0;
  std::vector<SlotSpec> slots;
  std::vector<PageRecord> pages;   // in the active list's order, oldest first
  std::vector<LeafRecord> leaves;  // sorted
};

// Takes the MMU lock. May throw std::bad_alloc, as DumpRmap may.
MmuDump Dump(const Mmu& mmu);

// The rmap of one guest frame at one level, in chain order; empty where
// nothing maps it. `page_gfn` names the guest table (or, for a direct page,
// the first frame) of the shadow page that holds the spte.
struct RmapRecord {
  Gfn page_gfn;
  Level page_level = Level::k4K;
  unsigned index = 0;  // of the spte in its table
  bool obsolete = false;
  friend bool operator==(const RmapRecord&, const RmapRecord&) = default;
};
std::vector<RmapRecord> DumpRmap(const Mmu& mmu, AddressSpace space, Gfn gfn,
                                 Level level = Level::k4K);

std::ostream& operator<<(std::ostream& os, const LeafRecord& leaf);
std::ostream& operator<<(std::ostream& os, const PageRecord& page);
std::ostream& operator<<(std::ostream& os, const MmuDump& dump);

}  // namespace shadowmmu

#endif  // SHADOWMMU_DUMP_H_
