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
  SMMU_CHECK_EQ(leaf_sptes_, 0u) << "a slot dies under sptes that map it";
  SMMU_CHECK_EQ(shadowed_tables_, 0u)
      << "a slot dies under shadow pages of its guest tables";
  if (chunks_ != nullptr) {
    const uint64_t made = chunks_made();
    for (uint64_t i = 0, freed = 0; freed < made; ++i) {
      RmapChunk* chunk = chunks_[i].load(std::memory_order_relaxed);
      if (chunk == nullptr) continue;
      if (chunk->write_track != nullptr) {
        host_.Free(chunk->write_track, chunk->gfns * sizeof(uint32_t));
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
  auto* chunk = static_cast<RmapChunk*>(host_.AllocateZeroed(bytes));
  if (chunk == nullptr) return false;
  chunk->first_gfn = range.begin;
  chunk->gfns = gfns;
  RmapChunk* expected = nullptr;
  if (!entry.compare_exchange_strong(expected, chunk,
                                     std::memory_order_acq_rel)) {
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
  std::atomic_ref<uint32_t*> entry(chunk->write_track);
  if (entry.load(std::memory_order_acquire) != nullptr) return true;
  const size_t bytes = chunk->gfns * sizeof(uint32_t);
  auto* counts = static_cast<uint32_t*>(host_.AllocateZeroed(bytes));
  if (counts == nullptr) return false;
  uint32_t* expected = nullptr;
  if (!entry.compare_exchange_strong(expected, counts,
                                     std::memory_order_acq_rel)) {
    host_.Free(counts, bytes);
    return true;
  }
  bytes_.fetch_add(bytes, std::memory_order_relaxed);
  return true;
}

void SlotRmaps::Refresh(RmapChunk& chunk, uint64_t epoch) {
  std::fill_n(chunk.heads(), chunk.gfns, RmapHead());
  chunk.head_2m = RmapHead();
  chunk.shadowed_tables = 0;
  std::atomic_ref<uint32_t*> counts(chunk.write_track);
  if (uint32_t* track = counts.load(std::memory_order_acquire)) {
    std::fill_n(track, chunk.gfns, uint32_t{0});
  }
  std::atomic_ref<uint64_t>(chunk.epoch)
      .store(epoch, std::memory_order_release);
}

const RmapChunk* SlotRmaps::PeekChunk(Gfn gfn, uint64_t epoch) const {
  const RmapChunk* chunk =
      chunks_[ChunkIndex(gfn)].load(std::memory_order_acquire);
  return chunk != nullptr && chunk->epoch == epoch ? chunk : nullptr;
}

GigabyteRecord& SlotRmaps::Gigabyte(Gfn gfn, uint64_t epoch) {
  GigabyteRecord& record = gigabytes_[GigabyteIndex(gfn)];
  if (record.epoch != epoch) {
    record.head_1g = RmapHead();
    record.shadowed_tables = 0;
    record.epoch = epoch;
  }
  return record;
}

uint32_t SlotRmaps::Tracked(Gfn gfn, uint64_t epoch) {
  const RmapChunk* chunk = Chunk(gfn, epoch);
  if (chunk == nullptr || chunk->shadowed_tables == 0) return 0;
  return chunk->write_track[gfn - chunk->first_gfn];
}

bool SlotRmaps::AnyShadowed(Gfn gfn, Level level, uint64_t epoch) {
  if (level == Level::k1G) return Gigabyte(gfn, epoch).shadowed_tables != 0;
  const RmapChunk* chunk = Chunk(gfn, epoch);
  return chunk != nullptr && chunk->shadowed_tables != 0;
}

void SlotRmaps::Track(Gfn gfn, uint64_t epoch) {
  SMMU_CHECK(!remove_only_) << "a guest table shadowed in a dying slot";
  RmapChunk* chunk = Chunk(gfn, epoch);
  SMMU_CHECK(chunk != nullptr && chunk->write_track != nullptr)
      << gfn << " tracked without a reservation";
  ++chunk->write_track[gfn - chunk->first_gfn];
  ++chunk->shadowed_tables;
  ++Gigabyte(gfn, epoch).shadowed_tables;
  ++shadowed_tables_;
}

void SlotRmaps::Loosen(Gfn gfn, uint64_t epoch) {
  RmapChunk* chunk = Chunk(gfn, epoch);
  SMMU_CHECK(chunk != nullptr && chunk->shadowed_tables != 0 &&
             chunk->write_track[gfn - chunk->first_gfn] != 0)
      << gfn << " is not tracked";
  --chunk->write_track[gfn - chunk->first_gfn];
}

void SlotRmaps::Tighten(Gfn gfn, uint64_t epoch) {
  RmapChunk* chunk = Chunk(gfn, epoch);
  SMMU_CHECK(chunk != nullptr && chunk->shadowed_tables != 0)
      << gfn << " is not shadowed";
  ++chunk->write_track[gfn - chunk->first_gfn];
}

void SlotRmaps::Untrack(Gfn gfn, uint64_t epoch) {
  RmapChunk* chunk = Chunk(gfn, epoch);
  SMMU_CHECK(chunk != nullptr && chunk->shadowed_tables != 0 &&
             chunk->write_track[gfn - chunk->first_gfn] != 0)
      << gfn << " is not tracked";
  --chunk->write_track[gfn - chunk->first_gfn];
  --chunk->shadowed_tables;
  --Gigabyte(gfn, epoch).shadowed_tables;
  --shadowed_tables_;
}

}  // namespace shadowmmu
