#include "src/rmap/slot_rmaps.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>

#include "absl/status/status.h"
#include "src/base/no_memory.h"

namespace shadowmmu {

// The directory comes as zeroed memory from the Host: all-null pointers.
static_assert(sizeof(std::atomic<RmapChunk*>) == sizeof(uintptr_t));

SlotRmaps::SlotRmaps(Host& host, GfnRange gfns, uint64_t serial)
    : host_(host),
      gfns_(gfns),
      // An odd multiplier spreads consecutive serials over all 28 bits.
      salt_(serial * 0x9e3779b97f4a7c15u >> 20),
      first_chunk_(gfns.begin.value() / kGfnsPerChunk),
      first_gigabyte_(gfns.begin.value() / PagesPerEntry(Level::k1G)) {}

absl::StatusOr<std::shared_ptr<SlotRmaps>> SlotRmaps::Create(Host& host,
                                                             GfnRange gfns,
                                                             uint64_t serial) {
  SMMU_CHECK_GT(gfns.pages, 0u);
  auto* raw = new (std::nothrow) SlotRmaps(host, gfns, serial);
  if (raw == nullptr) return NoMemory("slot: no memory");
  std::shared_ptr<SlotRmaps> rmaps(raw);
  const uint64_t chunk_bytes =
      rmaps->chunk_count() * sizeof(std::atomic<RmapChunk*>);
  const uint64_t gigabyte_bytes =
      rmaps->gigabyte_count() * sizeof(GigabyteRecord);
  rmaps->chunks_ =
      static_cast<std::atomic<RmapChunk*>*>(host.AllocateZeroed(chunk_bytes));
  rmaps->gigabytes_ =
      static_cast<GigabyteRecord*>(host.AllocateZeroed(gigabyte_bytes));
  if (rmaps->chunks_ == nullptr || rmaps->gigabytes_ == nullptr) {
    return NoMemory("pages: no memory for the slot's directory");
  }
  rmaps->bytes_.store(chunk_bytes + gigabyte_bytes, std::memory_order_relaxed);
  return rmaps;
}

SlotRmaps::~SlotRmaps() {
  SMMU_CHECK_EQ(populated_.load(std::memory_order_relaxed), 0u)
      << "a slot dies under sptes that map it";
  SMMU_CHECK_EQ(shadowed_tables_, 0u)
      << "a slot dies under shadow pages of its guest tables";
  if (chunks_ != nullptr) {
    const uint64_t made = chunks_made();
    for (uint64_t i = 0, freed = 0; freed < made; ++i) {
      RmapChunk* chunk = chunks_[i].load(std::memory_order_relaxed);
      if (chunk == nullptr) continue;
      std::atomic<uint32_t>* counts =
          chunk->write_track.load(std::memory_order_relaxed);
      if (counts != nullptr) {
        host_.Free(counts, chunk->gfns * sizeof(*counts));
      }
      host_.Free(chunk, RmapChunk::Bytes(chunk->gfns));
      ++freed;
    }
    host_.Free(chunks_, chunk_count() * sizeof(std::atomic<RmapChunk*>));
  }
  if (gigabytes_ != nullptr) {
    host_.Free(gigabytes_, gigabyte_count() * sizeof(GigabyteRecord));
  }
}

GfnRange SlotRmaps::ChunkRange(Gfn gfn) const {
  const Gfn aligned = AlignDown(gfn, Level::k2M);
  const Gfn begin = std::max(aligned, gfns_.begin);
  const Gfn end = std::min(aligned + kGfnsPerChunk, gfns_.end());
  return {begin, end - begin};
}

bool SlotRmaps::MakeChunk(Gfn gfn) {
  std::atomic<RmapChunk*>& entry = chunks_[ChunkIndex(gfn)];
  const GfnRange range = ChunkRange(gfn);
  const auto gfns = static_cast<uint32_t>(range.pages);
  const size_t bytes = RmapChunk::Bytes(gfns);
  void* memory = host_.AllocateZeroed(bytes);
  if (memory == nullptr) return false;
  // The heads behind it are empty as zeroes.
  auto* chunk = new (memory) RmapChunk{.first_gfn = range.begin, .gfns = gfns};
  RmapChunk* expected = nullptr;
  if (!entry.compare_exchange_strong(expected, chunk,
                                     std::memory_order_seq_cst)) {
    host_.Free(chunk, bytes);  // another thread was first
    return true;
  }
  chunks_made_.fetch_add(1, std::memory_order_relaxed);
  bytes_.fetch_add(bytes, std::memory_order_relaxed);
  return true;
}

bool SlotRmaps::MakeWriteTrack(Gfn gfn) {
  if (!EnsureChunk(gfn)) return false;
  RmapChunk* chunk = chunks_[ChunkIndex(gfn)].load(std::memory_order_acquire);
  if (chunk->write_track.load(std::memory_order_acquire) != nullptr) {
    return true;
  }
  const size_t bytes = chunk->gfns * sizeof(std::atomic<uint32_t>);
  auto* counts =
      static_cast<std::atomic<uint32_t>*>(host_.AllocateZeroed(bytes));
  if (counts == nullptr) return false;
  std::atomic<uint32_t>* expected = nullptr;
  if (!chunk->write_track.compare_exchange_strong(expected, counts,
                                                  std::memory_order_acq_rel)) {
    host_.Free(counts, bytes);
    return true;
  }
  bytes_.fetch_add(bytes, std::memory_order_relaxed);
  return true;
}

void SlotRmaps::MakeFresh(uint64_t epoch) {
  if (counts_epoch_.load(std::memory_order_acquire) == epoch) return;
  SpinLockHolder held(&counts_lock_);
  if (counts_epoch_.load(std::memory_order_relaxed) == epoch) return;
  populated_.store(0, std::memory_order_relaxed);
  shadowed_tables_ = 0;
  counts_epoch_.store(epoch, std::memory_order_release);
}

void SlotRmaps::Refresh(RmapChunk& chunk, uint64_t epoch) {
  MakeFresh(epoch);
  std::fill_n(chunk.heads(), chunk.gfns, RmapHead());
  chunk.head_2m = RmapHead();
  chunk.leaf_sptes = 0;
  chunk.shadowed_tables.store(0, std::memory_order_relaxed);
  if (std::atomic<uint32_t>* counts =
          chunk.write_track.load(std::memory_order_acquire)) {
    for (uint32_t i = 0; i < chunk.gfns; ++i) {
      counts[i].store(0, std::memory_order_relaxed);
    }
  }
  chunk.epoch.store(epoch, std::memory_order_release);
}

GigabyteRecord& SlotRmaps::Gigabyte(Gfn gfn, uint64_t epoch) {
  GigabyteRecord& record = gigabytes_[GigabyteIndex(gfn)];
  if (record.epoch.load(std::memory_order_relaxed) != epoch) {
    MakeFresh(epoch);
    record.head_1g = RmapHead();
    record.leaf_sptes = 0;
    record.shadowed_tables.store(0, std::memory_order_relaxed);
    record.epoch.store(epoch, std::memory_order_release);
  }
  return record;
}

uint64_t SlotRmaps::leaf_sptes(uint64_t epoch) const {
  uint64_t left = populated(epoch);
  uint64_t sptes = 0;
  const auto add = [&](uint64_t of, uint32_t more) {
    if (of != epoch || more == 0) return;
    sptes += more;
    --left;
  };
  for (uint64_t i = 0; left != 0 && i < chunk_count(); ++i) {
    const RmapChunk* chunk = chunks_[i].load(std::memory_order_acquire);
    if (chunk != nullptr) add(chunk->epoch, chunk->leaf_sptes);
  }
  for (uint64_t i = 0; left != 0 && i < gigabyte_count(); ++i) {
    add(gigabytes_[i].epoch, gigabytes_[i].leaf_sptes);
  }
  return sptes;
}

// The number of tables first, where there is none: chunks without any are not
// searched, and have no counts.
uint32_t SlotRmaps::Tracked(Gfn gfn, uint64_t epoch) const {
  const RmapChunk* chunk = PeekChunk(gfn, epoch);
  if (chunk == nullptr ||
      chunk->shadowed_tables.load(std::memory_order_seq_cst) == 0) {
    return 0;
  }
  return chunk->Count(gfn).load(std::memory_order_seq_cst);
}

bool SlotRmaps::AnyShadowed(Gfn gfn, Level level, uint64_t epoch) const {
  if (level == Level::k1G) {
    const GigabyteRecord& record = gigabytes_[GigabyteIndex(gfn)];
    return record.epoch.load(std::memory_order_acquire) == epoch &&
           record.shadowed_tables.load(std::memory_order_relaxed) != 0;
  }
  const RmapChunk* chunk = PeekChunk(gfn, epoch);
  return chunk != nullptr &&
         chunk->shadowed_tables.load(std::memory_order_relaxed) != 0;
}

// Raised under the locks of the lists: who maps looks at the counts under them
// (table_tracking.h).
void SlotRmaps::Track(Gfn gfn, uint64_t epoch) {
  SMMU_CHECK(!remove_only_) << "a guest table shadowed in a dying slot";
  SMMU_CHECK(HasChunk(gfn)) << gfn << " tracked without a reservation";
  {
    const LockedList made_fresh(*this, gfn, Level::k4K, epoch);
    RmapChunk* chunk = Chunk(gfn, epoch);
    SMMU_CHECK(chunk != nullptr &&
               chunk->write_track.load(std::memory_order_acquire) != nullptr)
        << gfn << " tracked without a reservation";
    chunk->Count(gfn).fetch_add(1, std::memory_order_seq_cst);
    chunk->shadowed_tables.fetch_add(1, std::memory_order_seq_cst);
  }
  {
    const LockedList made_fresh(*this, gfn, Level::k1G, epoch);
    Gigabyte(gfn, epoch)
        .shadowed_tables.fetch_add(1, std::memory_order_relaxed);
  }
  ++shadowed_tables_;
}

void SlotRmaps::Loosen(Gfn gfn, uint64_t epoch) {
  const RmapChunk* chunk = PeekChunk(gfn, epoch);
  SMMU_CHECK(chunk != nullptr && Tracked(gfn, epoch) != 0)
      << gfn << " is not tracked";
  chunk->Count(gfn).fetch_sub(1, std::memory_order_seq_cst);
}

void SlotRmaps::Tighten(Gfn gfn, uint64_t epoch) {
  const RmapChunk* chunk = PeekChunk(gfn, epoch);
  SMMU_CHECK(chunk != nullptr && chunk->shadowed_tables != 0)
      << gfn << " is not shadowed";
  chunk->Count(gfn).fetch_add(1, std::memory_order_relaxed);
}

void SlotRmaps::Untrack(Gfn gfn, uint64_t epoch) {
  RmapChunk* chunk = Chunk(gfn, epoch);
  SMMU_CHECK(chunk != nullptr && Tracked(gfn, epoch) != 0)
      << gfn << " is not tracked";
  chunk->Count(gfn).fetch_sub(1, std::memory_order_relaxed);
  chunk->shadowed_tables.fetch_sub(1, std::memory_order_relaxed);
  Gigabyte(gfn, epoch).shadowed_tables.fetch_sub(1, std::memory_order_relaxed);
  --shadowed_tables_;
}

}  // namespace shadowmmu
