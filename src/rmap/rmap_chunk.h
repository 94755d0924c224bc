// RmapChunk: the page-owned state of the gfns of one absolute 2 MiB that one
// slot covers, cut to what it covers: rmap heads, and what shadowed guest
// tables among them cause.
//
//  1. All of it is owned by the shadow pages of one arena epoch: with an older
//     `epoch` it reads as empty, and Refresh resets it before first use.
//  2. heads[i] is the 4K rmap of gfn first_gfn + i; head_2m is the one of the
//     whole 2 MiB, used only if the slot covers all of it.
//  3. write_track, if there, counts for each gfn how many shadow pages track
//     the guest table that lies in it; shadowed_tables counts those that shadow
//     one, unsync ones included.
//
//  4. leaf_sptes counts the sptes on its lists.
//
// Locking: the MMU lock held exclusively, or held shared with `lock`, which
// also guards the chains of its lists. The counts of 3. are atomics that
// anybody reads who holds the MMU lock, and are raised under kStructure, too
// (table_tracking.h). Making a chunk needs no lock (SlotRmaps::EnsureChunk).

#ifndef SHADOWMMU_RMAP_RMAP_CHUNK_H_
#define SHADOWMMU_RMAP_RMAP_CHUNK_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "shadowmmu/address.h"
#include "src/base/mutex.h"
#include "src/rmap/rmap_head.h"

namespace shadowmmu {

inline constexpr unsigned kGfnsPerChunk = 512;

struct alignas(64) RmapChunk {
  std::atomic<uint64_t> epoch{0};
  Gfn first_gfn;
  uint32_t gfns = 0;  // 1 to 512
  std::atomic<uint32_t> shadowed_tables{0};
  RmapHead head_2m;
  uint32_t leaf_sptes = 0;
  // `gfns` counts, or nullptr.
  std::atomic<std::atomic<uint32_t>*> write_track{nullptr};
  SpinLock lock{LockRank::kChunk};

  static constexpr size_t Bytes(uint32_t gfns) {
    return sizeof(RmapChunk) + gfns * sizeof(RmapHead);
  }
  // The count of a gfn. Precondition: there are counts.
  std::atomic<uint32_t>& Count(Gfn gfn) const {
    return write_track.load(std::memory_order_acquire)[gfn - first_gfn];
  }
  // The heads lie right behind the chunk, on a cache line of their own.
  RmapHead* heads() { return reinterpret_cast<RmapHead*>(this + 1); }
  RmapHead& Head(Gfn gfn) { return heads()[gfn - first_gfn]; }
};
static_assert(sizeof(RmapChunk) == 64);

// The same for the 1 GiB rmaps, one record for each absolute GiB, under a lock
// that they share (SlotRmaps).
struct GigabyteRecord {
  std::atomic<uint64_t> epoch;
  RmapHead head_1g;
  uint32_t leaf_sptes;
  std::atomic<uint32_t> shadowed_tables;
};
static_assert(sizeof(GigabyteRecord) == 24);

}  // namespace shadowmmu

#endif  // SHADOWMMU_RMAP_RMAP_CHUNK_H_
