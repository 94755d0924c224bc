// Counters of one Mmu. Each is exact at the moment it is read; together they
// are a snapshot taken in one hold of the MMU lock.

#ifndef SHADOWMMU_STATS_H_
#define SHADOWMMU_STATS_H_

#include <array>
#include <cstdint>
#include <iosfwd>

#include "shadowmmu/slot_zap.h"

namespace shadowmmu {

struct Stats {
  // ---- What is there now ----
  uint64_t shadow_pages = 0;    // tables in use, obsolete and pinned included
  uint64_t obsolete_pages = 0;  // of these, obsolete, or zapped and a root
  uint64_t unsync_pages = 0;    // of shadow_pages: their tables may be written
  uint64_t leaf_sptes = 0;      // entries that map guest memory
  uint64_t pte_list_descs = 0;  // descriptors in use
  uint64_t rmap_chunks = 0;     // 2 MiB chunks of per-gfn state
  uint64_t slots = 0;
  uint64_t vcpus = 0;
  uint64_t page_limit = 0;      // the most shadow pages that may be in use
  uint64_t table_bytes = 0;     // shadow pages, 4 KiB each
  uint64_t metadata_bytes = 0;  // all else the library holds from the Host

  // ---- What happened since the Mmu was made ----
  uint64_t faults = 0;           // HandleFault calls
  uint64_t fast_faults = 0;      // of these, a page was written again that only
                                 // the dirty log had made read-only
  uint64_t fault_retries = 0;    // times a fault started over
  uint64_t guest_faults = 0;     // ended as kGuestFault
  uint64_t emulations = 0;       // ended as kEmulate
  uint64_t root_switches = 0;    // register writes that led to another root
  uint64_t root_cache_hits = 0;  // of these, to a previous one
  uint64_t links_inherited = 0;  // links that a new root had from another
  uint64_t unsyncs = 0;          // times a page became unsync
  uint64_t syncs = 0;            // times one was brought in step
  uint64_t sptes_set = 0;        // leaf entries made or changed
  // Of these, made beside one that faulted (MmuConfig::prefetch).
  uint64_t sptes_prefetched = 0;
  uint64_t pages_created = 0;   // shadow pages made
  uint64_t pages_zapped = 0;    // shadow pages taken out
  uint64_t pages_evicted = 0;   // of these, to make room
  uint64_t pages_flooded = 0;   // of these, their table was written as data
  uint64_t pages_unlinked = 0;  // of these, the guest let go of their table
  uint64_t pages_released = 0;  // shadow pages that a release took, unwalked
  uint64_t releases = 0;
  uint64_t sptes_zapped = 0;  // leaf entries taken off their rmap
  uint64_t generation_bumps = 0;
  uint64_t reclaim_batches = 0;  // holds of the lock by ReclaimObsolete
  uint64_t lock_breaks = 0;      // times a walk let others in
  uint64_t tlb_flushes = 0;      // of all vCPUs, or those on obsolete roots
  uint64_t flushes_spared = 0;   // for obsolete pages that no vCPU was on
  uint64_t guest_writes = 0;     // GuestWrite and GuestCompareExchange stores
  uint64_t guest_table_writes = 0;  // of these, into a shadowed guest table

  // Of the last slot that was deleted or moved, and how often each way was
  // gone.
  SlotZapChoice last_slot_zap;
  uint64_t slots_zapped_targeted = 0;
  uint64_t slots_zapped_by_walk = 0;
  uint64_t slots_zapped_by_release = 0;

  // With MmuConfig::time_lock_holds: how often the MMU lock was held
  // exclusively for 2^i ns or longer, and less than 2^(i+1); the first also
  // less, the last also longer. (Faults that only add share it with each
  // other.)
  std::array<uint64_t, 32> lock_holds = {};
  uint64_t longest_lock_hold_ns = 0;
};

// One "name value" line each; of lock_holds those that are not 0, as
// "lock_holds_from_1024_ns 17".
std::ostream& operator<<(std::ostream& os, const Stats& stats);

}  // namespace shadowmmu

#endif  // SHADOWMMU_STATS_H_
