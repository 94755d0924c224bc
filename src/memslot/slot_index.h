// SlotIndex: an immutable sorted map from a 64-bit key to slots, in blocks that
// its versions share. A change copies one block and the list of blocks, so
// 32,764 slots made one by one cost some 10 KiB of copying each, readers need
// no lock, and a version that cannot be built leaves the old one as it was.
//
//  1. Keys ascend; equal keys are allowed, told apart by slot.
//  2. A block has 1 to kMaxBlock entries.
//  3. `max_end` of a block bounds the `end` of its entries, for searches by
//     overlap.
//
// Thread safety: immutable. Building a version may throw std::bad_alloc.

#ifndef SHADOWMMU_MEMSLOT_SLOT_INDEX_H_
#define SHADOWMMU_MEMSLOT_SLOT_INDEX_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "src/memslot/memslot.h"

namespace shadowmmu {

class SlotIndex {
 public:
  struct Entry {
    uint64_t key = 0;
    uint64_t end = 0;  // one past the last key that the slot covers
    std::shared_ptr<const Memslot> slot;
  };

  size_t size() const { return size_; }

  // The entry with the greatest key that is not above `key`; nullptr if none.
  const Entry* AtOrBelow(uint64_t key) const;
  // The entry with the smallest key above `key`; nullptr if none.
  const Entry* Above(uint64_t key) const;
  // Calls visit(const Memslot&) for each entry that overlaps [begin, end).
  template <typename Visit>
  void ForEachOverlap(uint64_t begin, uint64_t end, Visit visit) const;
  template <typename Visit>
  void ForEach(Visit visit) const;

  SlotIndex With(Entry entry) const;
  // Precondition: an entry of this key for a slot of this id and space exists.
  SlotIndex Without(uint64_t key, const Memslot& slot) const;

 private:
  static constexpr size_t kMaxBlock = 128;
  struct Block {
    uint64_t max_end = 0;
    std::vector<Entry> entries;
  };

  static std::shared_ptr<const Block> MakeBlock(std::vector<Entry> entries);
  // The block that holds, or would hold, `key`. Precondition: not empty.
  size_t BlockOf(uint64_t key) const;

  size_t size_ = 0;
  std::vector<uint64_t> first_keys_;  // of blocks_, one each
  std::vector<std::shared_ptr<const Block>> blocks_;
};

template <typename Visit>
void SlotIndex::ForEachOverlap(uint64_t begin, uint64_t end,
                               Visit visit) const {
  for (size_t b = 0; b < blocks_.size() && first_keys_[b] < end; ++b) {
    if (blocks_[b]->max_end <= begin) continue;
    for (const Entry& entry : blocks_[b]->entries) {
      if (entry.key >= end) return;
      if (entry.end > begin) visit(*entry.slot);
    }
  }
}

template <typename Visit>
void SlotIndex::ForEach(Visit visit) const {
  for (const auto& block : blocks_) {
    for (const Entry& entry : block->entries) visit(*entry.slot);
  }
}

}  // namespace shadowmmu

#endif  // SHADOWMMU_MEMSLOT_SLOT_INDEX_H_
