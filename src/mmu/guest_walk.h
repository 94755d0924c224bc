// The guest walk: what the guest's own tables say about an address.
//
//  1. One walker for every mode: levels and formats are data (guest_format.h).
//  2. The order of checks is the manuals': at each level, present, then
//     reserved bits; the rights of the whole walk, and its key, last (SDM vol.
//     3, 4.6, 4.7).
//  3. Accessed bits of every entry used, and the dirty bit of the leaf for a
//     write, are set by compare-exchange, and only once the access is known to
//     be allowed (SDM vol. 3, 4.8). One that loses starts the walk again.
//  4. With AbsentTables::kReadAsOnes an entry that no slot holds is all ones, A
//     and D with them. A walk that leads from there back into a slot has no
//     shadow, because there is no table to track: it ends as kMemoryFault.
//  5. Nothing is written in a table that lies in a read-only slot; in one that
//     logs, what is written is marked.
//
// Locking: a slot reader's section (for the SlotTable). No lock needed; what
// was read may be old at once, and the mapper reads every entry again under the
// MMU lock.

#ifndef SHADOWMMU_MMU_GUEST_WALK_H_
#define SHADOWMMU_MMU_GUEST_WALK_H_

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "shadowmmu/access.h"
#include "shadowmmu/address.h"
#include "shadowmmu/fault.h"
#include "shadowmmu/mmu.h"
#include "src/memslot/slot_table.h"
#include "src/mmu/guest_format.h"
#include "src/mmu/guest_memory.h"
#include "src/mmu/paging_mode.h"
#include "src/mmu/permission.h"
#include "src/mmu/spte.h"

namespace shadowmmu {

// One entry that the walk used.
struct WalkStep {
  Gfn table;          // the guest table
  Hva hva;            // of the entry
  uint64_t gpte = 0;  // an entry of 4 bytes has its upper half clear
  Rights above;       // what the entries above leave: the table's role
  Rights through;     // the same with this entry's own
};

// A walk that ended at a page. With paging off there are no steps.
struct GuestWalk {
  unsigned levels = 0;
  // The guest's page size; k2M for 4 MiB, too.
  Level leaf = Level::k4K;
  Gfn gfn;                   // the 4K frame that was accessed
  Rights rights;             // of the whole walk
  unsigned key = 0;          // the leaf's protection key
  bool fix_up = false;       // the access takes a fix-up (permission.h)
  Dirty dirty = Dirty::kNo;  // the leaf's D bit, after the walk
  std::array<WalkStep, kMaxLevels + 1> step;  // by level

  // The touch of a table that the Host refused, if that is why the walk ended.
  struct Refusal {
    Hva hva;
    AccessType type = AccessType::kRead;
  };
  std::optional<Refusal> refused;
  // A or D was set in the upper half of what is an entry of 8 bytes to others:
  // see NoteWalkerStores (write_track.h).
  bool upper_half_set = false;
  // The first entry that no slot holds, and that read as ones.
  std::optional<Gpa> absent;

  const WalkStep& At(Level level) const { return step[ToInt(level)]; }
};

struct WalkContext {
  const SlotTable& slots;
  SlotCache& cache;
  GuestMemory& memory;
  AddressSpace space;
  const PagingMode& mode;
  AbsentTables absent_tables;
};

// nullopt, and `*walk`: the access is allowed. Otherwise what to do about it:
// kGuestFault, kMemoryFault, or kRetry.
std::optional<FaultOutcome> WalkGuest(const WalkContext& context, Gva gva,
                                      const Access& access, GuestWalk* walk);

// Reads the entry at `hva`: 4 or 8 bytes, as `format` has them.
inline TouchResult ReadGpte(GuestMemory& memory,
                            const GuestMemory::Section& section,
                            const GuestFormat& format, Hva hva,
                            uint64_t* gpte) {
  *gpte = 0;  // of 4 bytes the upper half stays so
  return memory.Read(section, hva,
                     std::as_writable_bytes(std::span<uint64_t, 1>(gpte, 1))
                         .first(format.entry_bytes()));
}

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_GUEST_WALK_H_
