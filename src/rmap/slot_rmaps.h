// SlotRmaps: the per-gfn state of one slot: for each gfn, at each level, the
// sptes that map it, and how many shadowed guest tables lie in it.
//
//  1. Chunks of 2 MiB are made on first use: a slot of any size is created in
//     time that does not depend on its size, and untouched memory costs a
//     pointer per 2 MiB.
//  2. A chunk or record of an older arena epoch reads as empty, and so do the
//     counts of the whole slot. Whatever is to be written is made fresh first,
//     and its new tag published after it.
//  3. Once remove-only (the slot is being deleted or moved), entries are taken
//     off, and none is added: a CHECK.
//  4. It dies empty: leaf_sptes() and shadowed_tables() are zero, a CHECK. What
//     is left of an older epoch is forgotten before: MakeFresh.
//
// Locking: a list and its count, the MMU lock held exclusively, or held shared
// with the list's lock (LockedList): that of its chunk, or one for all lists of
// 1 GiB. What counts shadowed tables says so for itself. Any thread may call
// Create, EnsureChunk and EnsureWriteTrack at any time while the slot lives.

#ifndef SHADOWMMU_RMAP_SLOT_RMAPS_H_
#define SHADOWMMU_RMAP_SLOT_RMAPS_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "shadowmmu/address.h"
#include "shadowmmu/host.h"
#include "src/base/check.h"
#include "src/base/mutex.h"
#include "src/base/prefetch.h"
#include "src/rmap/rmap_chunk.h"
#include "src/rmap/rmap_head.h"

namespace shadowmmu {

// How a walk over heads looks ahead: Far(head) is told of a head kFar entries
// before it is visited, Near(head) of it kNear entries before. This one does
// not.
struct NoLookAhead {
  static constexpr uint64_t kFar = 0;
  static constexpr uint64_t kNear = 0;
  void Far(RmapHead) const {}
  void Near(RmapHead) const {}
};

// One list of a slot, and where it is counted. No head: no such chunk was made.
struct SlotList {
  RmapHead* head = nullptr;
  uint32_t* leaf_sptes = nullptr;
};

class SlotRmaps {
 public:
  // ResourceExhausted: no memory for the directory. `serial` tells this slot
  // from every other that the VM ever had.
  static absl::StatusOr<std::shared_ptr<SlotRmaps>> Create(Host& host,
                                                           GfnRange gfns,
                                                           uint64_t serial);
  ~SlotRmaps();
  SlotRmaps(const SlotRmaps&) = delete;
  SlotRmaps& operator=(const SlotRmaps&) = delete;

  GfnRange gfns() const { return gfns_; }

  // Makes the chunk of `gfn`, or its write-track counts, if they are not
  // there. False: no memory.
  [[nodiscard]] bool EnsureChunk(Gfn gfn) {
    RmapChunk* chunk = FindChunk(gfn);
    if (chunk == nullptr) return MakeChunk(gfn);
    Prefetch(&chunk->Head(gfn));  // it will be written soon
    return true;
  }
  [[nodiscard]] bool EnsureWriteTrack(Gfn gfn) {
    const RmapChunk* chunk = FindChunk(gfn);
    return (chunk != nullptr &&
            chunk->write_track.load(std::memory_order_acquire) != nullptr) ||
           MakeWriteTrack(gfn);
  }

  // The chunk of `gfn` as of `epoch`: nullptr if it was never made.
  RmapChunk* Chunk(Gfn gfn, uint64_t epoch) {
    RmapChunk* chunk = FindChunk(gfn);
    if (chunk != nullptr &&
        chunk->epoch.load(std::memory_order_relaxed) != epoch) {
      Refresh(*chunk, epoch);
    }
    return chunk;
  }
  // The same without making it fresh: nullptr if stale. Needs no lock of a
  // list.
  const RmapChunk* PeekChunk(Gfn gfn, uint64_t epoch) const {
    const RmapChunk* chunk = FindChunk(gfn);
    return chunk != nullptr &&
                   chunk->epoch.load(std::memory_order_acquire) == epoch
               ? chunk
               : nullptr;
  }
  bool HasChunk(Gfn gfn) const { return FindChunk(gfn) != nullptr; }

  // The list of the sptes that map `gfn` at `level`. Precondition: gfns()
  // contains gfn.
  SlotList List(Gfn gfn, Level level, uint64_t epoch) {
    if (level == Level::k1G) {
      GigabyteRecord& record = Gigabyte(gfn, epoch);
      return {&record.head_1g, &record.leaf_sptes};
    }
    RmapChunk* chunk = FindChunk(gfn);
    if (chunk == nullptr) return {};
    return ListIn(*chunk, gfn, level, epoch);
  }
  // Its head, nullptr where there is no chunk.
  RmapHead* Head(Gfn gfn, Level level, uint64_t epoch) {
    return List(gfn, level, epoch).head;
  }
  // The lock of that list; see LockedList. Precondition: the chunk was made.
  SpinLock& LockOf(Gfn gfn, Level level) {
    return level == Level::k1G ? gigabytes_lock_ : FindChunk(gfn)->lock;
  }

  // What tells this list from every other one. `gfn` is the first frame that
  // an entry of `level` maps.
  OwnerTag Owner(Gfn gfn, Level level) const {
    return OwnerTag(salt_ + (gfn.value() << 2 | ToInt(level)));
  }

  // How many shadow pages track the guest table in `gfn`: those that shadow it
  // and are not unsync. Needs no lock of a list.
  uint32_t Tracked(Gfn gfn, uint64_t epoch) const;
  // Whether any guest table that is shadowed, tracked or not, lies in what an
  // entry of `level`, above k4K, around `gfn` maps of this slot. The same.
  bool AnyShadowed(Gfn gfn, Level level, uint64_t epoch) const;
  // Counts one shadow page more or less, which tracks its table. Precondition
  // of the first: EnsureWriteTrack(gfn). These four: one thread at a time;
  // Track takes the locks of lists.
  void Track(Gfn gfn, uint64_t epoch);
  void Untrack(Gfn gfn, uint64_t epoch);
  // One of the pages that are counted goes unsync, and back: its table is
  // shadowed all the same, and no large page may come near it.
  void Loosen(Gfn gfn, uint64_t epoch);
  void Tighten(Gfn gfn, uint64_t epoch);

  // Calls visit(RmapHead&, Gfn, Level) for each list, not empty, whose gfns
  // overlap `gfns`: 4K, then 2M, then 1G. The callback may empty the list.
  template <typename Visit, typename LookAhead = NoLookAhead>
  void ForEachHead(GfnRange gfns, uint64_t epoch, Visit visit,
                   LookAhead ahead = {}) {
    Walk<NoListLock, kGfnsPerChunk>(gfns, epoch, visit, ahead);
  }
  // The same beside others who add to lists: under the locks of the lists, each
  // let go of after some dozens of heads.
  template <typename Visit, typename LookAhead = NoLookAhead>
  void ForEachLockedHead(GfnRange gfns, uint64_t epoch, Visit visit,
                         LookAhead ahead = {}) {
    Walk<SpinLockHolder, kHeadsPerHold>(gfns, epoch, visit, ahead);
  }

  // Calls visit(chunk) for each chunk that was made and is not stale.
  template <typename Visit>
  void ForEachChunk(uint64_t epoch, Visit visit);
  // Calls visit(gfn, record) for each GiB.
  template <typename Visit>
  void ForEachGigabyte(uint64_t epoch, Visit visit);

  bool remove_only() const { return remove_only_; }
  void SetRemoveOnly() { remove_only_ = true; }

  // On how many chunks' and GiBs' rmaps there are leaf sptes; whether there are
  // any; how many on all of them, which looks at each chunk.
  uint64_t populated(uint64_t epoch) const {
    return counts_epoch_.load(std::memory_order_acquire) == epoch
               ? populated_.load(std::memory_order_relaxed)
               : 0;
  }
  bool any_leaf_sptes(uint64_t epoch) const { return populated(epoch) != 0; }
  uint64_t leaf_sptes(uint64_t epoch) const;
  // With what List returned, under the same lock.
  void CountAdded(const SlotList& list) {
    SMMU_CHECK(!remove_only_) << "an spte put on the rmap of a dying slot";
    if ((*list.leaf_sptes)++ == 0) {
      populated_.fetch_add(1, std::memory_order_relaxed);
    }
  }
  void CountRemoved(const SlotList& list, uint32_t sptes) {
    if (sptes == 0) return;
    SMMU_DCHECK_GE(*list.leaf_sptes, sptes);
    *list.leaf_sptes -= sptes;
    if (*list.leaf_sptes == 0) {
      populated_.fetch_sub(1, std::memory_order_relaxed);
    }
  }
  uint64_t shadowed_tables(uint64_t epoch) const {
    return counts_epoch_.load(std::memory_order_acquire) == epoch
               ? shadowed_tables_
               : 0;
  }
  // Forgets what the slot counted in older epochs.
  void MakeFresh(uint64_t epoch);

  uint64_t chunks_made() const {
    return chunks_made_.load(std::memory_order_relaxed);
  }
  uint64_t bytes() const { return bytes_.load(std::memory_order_relaxed); }

 private:
  friend class LockedList;
  static constexpr uint64_t kHeadsPerHold = 64;

  // In the place of SpinLockHolder.
  struct NoListLock {
    explicit NoListLock(SpinLock*) {}
  };

  SlotRmaps(Host& host, GfnRange gfns, uint64_t serial);
  template <typename Lock, uint64_t kHeads, typename Visit, typename LookAhead>
  void Walk(GfnRange gfns, uint64_t epoch, Visit visit, LookAhead ahead);
  template <typename Lock, uint64_t kHeads, typename Visit, typename LookAhead>
  void WalkChunk(RmapChunk& chunk, GfnRange gfns, Visit visit, LookAhead ahead);

  uint64_t ChunkIndex(Gfn gfn) const {
    SMMU_DCHECK(gfns_.Contains(gfn));
    return (gfn.value() / kGfnsPerChunk) - first_chunk_;
  }
  uint64_t chunk_count() const {
    return (gfns_.end() - 1).value() / kGfnsPerChunk - first_chunk_ + 1;
  }
  uint64_t GigabyteIndex(Gfn gfn) const {
    return gfn.value() / PagesPerEntry(Level::k1G) - first_gigabyte_;
  }
  uint64_t gigabyte_count() const { return GigabyteIndex(gfns_.end() - 1) + 1; }
  // The chunk of `gfn`, of whatever epoch; nullptr if it was never made.
  // seq_cst, here and where it is made, for rule 3 of mmu/table_tracking.h: who
  // tracks a gfn, and sees no chunk, is seen by who maps it there.
  RmapChunk* FindChunk(Gfn gfn) const {
    return chunks_[ChunkIndex(gfn)].load(std::memory_order_seq_cst);
  }
  SlotList ListIn(RmapChunk& chunk, Gfn gfn, Level level, uint64_t epoch) {
    if (chunk.epoch.load(std::memory_order_relaxed) != epoch) {
      Refresh(chunk, epoch);
    }
    return {level == Level::k4K ? &chunk.Head(gfn) : &chunk.head_2m,
            &chunk.leaf_sptes};
  }
  bool MakeChunk(Gfn gfn);
  bool MakeWriteTrack(Gfn gfn);
  // What part of the chunk around `gfn` the slot covers.
  GfnRange ChunkRange(Gfn gfn) const;
  GigabyteRecord& Gigabyte(Gfn gfn, uint64_t epoch);
  void Refresh(RmapChunk& chunk, uint64_t epoch);
  // Calls visit(head, index) for each of `count` heads that is not empty.
  template <typename Visit, typename LookAhead>
  static void VisitHeads(RmapHead* heads, uint64_t count, LookAhead ahead,
                         Visit visit) {
    for (uint64_t i = 0; i < std::min(count, LookAhead::kFar); ++i) {
      ahead.Far(heads[i]);
    }
    for (uint64_t i = 0; i < count; ++i) {
      if (i + LookAhead::kFar < count) ahead.Far(heads[i + LookAhead::kFar]);
      if (i + LookAhead::kNear < count) ahead.Near(heads[i + LookAhead::kNear]);
      if (!heads[i].empty()) visit(heads[i], i);
    }
  }

  Host& host_;
  const GfnRange gfns_;
  const uint64_t salt_;
  const uint64_t first_chunk_;
  const uint64_t first_gigabyte_;
  std::atomic<RmapChunk*>* chunks_ = nullptr;
  GigabyteRecord* gigabytes_ = nullptr;
  SpinLock gigabytes_lock_{LockRank::kChunk};

  bool remove_only_ = false;
  // Of populated_ and shadowed_tables_. Raised under its lock, by who makes the
  // first chunk or record fresh: before anything of the epoch is counted.
  std::atomic<uint64_t> counts_epoch_{0};
  SpinLock counts_lock_{LockRank::kLeaf};
  // Chunks, and GiB, on whose lists there are sptes: a count of all sptes would
  // be written by every fault.
  std::atomic<uint64_t> populated_{0};
  uint64_t shadowed_tables_ = 0;
  std::atomic<uint64_t> chunks_made_{0};
  std::atomic<uint64_t> bytes_{0};
};

// Holds the lock of one list; its head is nullptr if its chunk was never made.
class LockedList {
 public:
  LockedList(SlotRmaps& rmaps, Gfn gfn, Level level,
             uint64_t epoch) ABSL_NO_THREAD_SAFETY_ANALYSIS
      : chunk_(level == Level::k1G ? nullptr : rmaps.FindChunk(gfn)),
        lock_(chunk_ == nullptr ? rmaps.gigabytes_lock_ : chunk_->lock) {
    lock_.Lock();
    list_ = chunk_ == nullptr ? rmaps.List(gfn, level, epoch)
                              : rmaps.ListIn(*chunk_, gfn, level, epoch);
  }
  ~LockedList() ABSL_NO_THREAD_SAFETY_ANALYSIS { lock_.Unlock(); }
  LockedList(const LockedList&) = delete;
  LockedList& operator=(const LockedList&) = delete;

  const SlotList& list() const { return list_; }

 private:
  RmapChunk* const chunk_;
  SpinLock& lock_;
  SlotList list_;
};

template <typename Visit>
void SlotRmaps::ForEachChunk(uint64_t epoch, Visit visit) {
  if (chunks_made() == 0) return;
  const uint64_t count = chunk_count();
  for (uint64_t i = 0; i < count; ++i) {
    RmapChunk* chunk = chunks_[i].load(std::memory_order_acquire);
    if (chunk != nullptr && chunk->epoch == epoch) visit(*chunk);
  }
}

template <typename Lock, uint64_t kHeads, typename Visit, typename LookAhead>
void SlotRmaps::WalkChunk(RmapChunk& chunk, GfnRange gfns, Visit visit,
                          LookAhead ahead) {
  const Gfn end = std::min(gfns.end(), chunk.first_gfn + chunk.gfns);
  for (Gfn at = std::max(gfns.begin, chunk.first_gfn); at < end; at += kHeads) {
    const Lock lock(&chunk.lock);
    if (chunk.leaf_sptes == 0) return;
    VisitHeads(
        &chunk.Head(at), std::min(kHeads, end - at), ahead,
        [&](RmapHead& head, uint64_t i) { visit(head, at + i, Level::k4K); });
  }
  const Lock lock(&chunk.lock);
  if (!chunk.head_2m.empty()) {
    visit(chunk.head_2m, chunk.first_gfn, Level::k2M);
  }
}

template <typename Lock, uint64_t kHeads, typename Visit, typename LookAhead>
void SlotRmaps::Walk(GfnRange gfns, uint64_t epoch, Visit visit,
                     LookAhead ahead) {
  if (!any_leaf_sptes(epoch) || gfns.pages == 0) return;
  const uint64_t last = ChunkIndex(gfns.end() - 1);
  for (uint64_t i = ChunkIndex(gfns.begin); i <= last; ++i) {
    RmapChunk* chunk = chunks_[i].load(std::memory_order_acquire);
    if (chunk == nullptr ||
        chunk->epoch.load(std::memory_order_acquire) != epoch) {
      continue;
    }
    WalkChunk<Lock, kHeads>(*chunk, gfns, visit, ahead);
  }
  const uint64_t last_gigabyte = GigabyteIndex(gfns.end() - 1);
  for (uint64_t i = GigabyteIndex(gfns.begin); i <= last_gigabyte; ++i) {
    GigabyteRecord& record = gigabytes_[i];
    if (record.epoch.load(std::memory_order_acquire) != epoch) continue;
    const Lock lock(&gigabytes_lock_);
    if (record.head_1g.empty()) continue;
    visit(record.head_1g,
          Gfn((first_gigabyte_ + i) * PagesPerEntry(Level::k1G)), Level::k1G);
  }
}

template <typename Visit>
void SlotRmaps::ForEachGigabyte(uint64_t epoch, Visit visit) {
  const uint64_t count = gigabyte_count();
  for (uint64_t i = 0; i < count; ++i) {
    if (gigabytes_[i].epoch != epoch) continue;
    visit(Gfn((first_gigabyte_ + i) * PagesPerEntry(Level::k1G)),
          gigabytes_[i]);
  }
}

}  // namespace shadowmmu

#endif  // SHADOWMMU_RMAP_SLOT_RMAPS_H_
