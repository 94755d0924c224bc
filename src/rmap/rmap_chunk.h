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
// Locking: the MMU lock; making a chunk needs none (SlotRmaps::EnsureChunk).

#ifndef SHADOWMMU_RMAP_RMAP_CHUNK_H_
#define SHADOWMMU_RMAP_RMAP_CHUNK_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "shadowmmu/address.h"
#include "src/rmap/rmap_head.h"

namespace shadowmmu {

inline constexpr unsigned kGfnsPerChunk = 512;

struct alignas(64) RmapChunk {
  uint64_t epoch;
  Gfn first_gfn;
  uint32_t gfns;  // 1 to 512
  uint32_t shadowed_tables;
  RmapHead head_2m;
  uint32_t* write_track;  // `gfns` counts, or nullptr

  static constexpr size_t Bytes(uint32_t gfns) {
    return sizeof(RmapChunk) + gfns * sizeof(RmapHead);
  }
  // The counts, which another thread may be installing.
  const uint32_t* counts() const {
    return std::atomic_ref<uint32_t*>(const_cast<RmapChunk*>(this)->write_track)
        .load(std::memory_order_acquire);
  }
  // The heads lie right behind the chunk, on a cache line of their own.
  RmapHead* heads() { return reinterpret_cast<RmapHead*>(this + 1); }
  RmapHead& Head(Gfn gfn) { return heads()[gfn - first_gfn]; }
};
static_assert(sizeof(RmapChunk) == 64);

// The same for the 1 GiB rmaps, one record for each absolute GiB.
struct GigabyteRecord {
  uint64_t epoch;
  RmapHead head_1g;
  uint32_t shadowed_tables;
};
static_assert(sizeof(GigabyteRecord) == 16);

}  // namespace shadowmmu

#endif  // SHADOWMMU_RMAP_RMAP_CHUNK_H_
