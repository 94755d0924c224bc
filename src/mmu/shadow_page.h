// ShadowPage: the header of one shadow page table. The table itself (512
// entries that the CPU reads) lies in the arena at the same index; from an spte
// its header is found by arithmetic.
//
//  1. A page is free, active (in the hash and the active list), or zapped (in
//     neither, all its entries clear, kept only while it is some vCPU's root).
//  2. An indirect page shadows the guest table in `gfn`, and has a translation
//     for each entry; a direct page maps gfns from `gfn` on, and has none.
//  3. `parents` lists every entry that points here, and nothing else.
//  4. `entries` counts the present entries.
//  5. An unsync page is an indirect one of level k4K whose guest table may be
//     written with no trap: its entries may be older than the guest's.
//  6. Entry i is marked in the page's UnsyncChildren if and only if it links a
//     child that is unsync or has marks itself; `unsync_children` counts the
//     marks.
//
// Locking: the MMU lock, held exclusively. Held shared, what identifies a page
// does not change, and everybody reads it; `lock` guards the entries, their
// translations and their number; Vm::structure_lock the links of the hash and
// the list, `parents`, and what is unsync. `unsync_children` is written
// atomically, and read with no lock by vCPUs that hold the page as root
// (unsync_marks.h).

#ifndef SHADOWMMU_MMU_SHADOW_PAGE_H_
#define SHADOWMMU_MMU_SHADOW_PAGE_H_

#include <atomic>
#include <cstdint>

#include "shadowmmu/address.h"
#include "src/base/mutex.h"
#include "src/mmu/page_role.h"
#include "src/rmap/rmap_head.h"
#include "src/rmap/spte_ref.h"

namespace shadowmmu {

// For each entry of an indirect page, the gfn that it maps: what was used to
// put it on its rmap, and what must be used to take it off. Read from the
// guest's table once, never again. Good where the entry is a present leaf.
struct alignas(64) TranslationArray {
  Gfn gfn[kEntriesPerTable];
};

// The entries of a page that lead to unsync pages: rule 6.
struct alignas(64) UnsyncChildren {
  uint64_t word[kEntriesPerTable / 64];
};
static_assert(sizeof(UnsyncChildren) == 64);

enum class PageState : uint8_t { kFree, kActive, kZapped };

struct alignas(64) ShadowPage {
  uint64_t mmu_valid_gen = 0;
  Gfn gfn;
  PageRole role;
  RmapHead parents;
  TableIndex hash_next = {};  // in the bucket; among the free or zapped pages
  TableIndex list_prev = {};  // in the active list
  TableIndex list_next = {};
  uint32_t root_count = 0;  // vCPUs that hold the page as (part of) their root
  uint32_t translations = 0;  // index in the pool; 0: direct
  uint16_t entries = 0;
  uint16_t unsync_children = 0;
  PageState state = {};
  std::atomic<bool> unsync{false};
  // Emulated stores into the guest table since a fault last walked through the
  // page (write_track.h).
  std::atomic<uint8_t> write_flooding_count{0};
  SpinLock lock{LockRank::kPage};

  // A fault walks through the page.
  void NoteUse() {
    if (write_flooding_count.load(std::memory_order_relaxed) != 0) {
      write_flooding_count.store(0, std::memory_order_relaxed);
    }
  }
};
static_assert(sizeof(ShadowPage) == 64);

// The key of a page's parent list.
constexpr OwnerTag ParentOwner(TableIndex table) {
  return OwnerTag(uint64_t{ToInt(table)} ^ (uint64_t{1} << 27));
}

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_SHADOW_PAGE_H_
