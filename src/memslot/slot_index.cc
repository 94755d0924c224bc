#include "src/memslot/slot_index.h"

#include <utility>

#include "src/base/check.h"

namespace shadowmmu {
namespace {

bool SameSlot(const Memslot& a, const Memslot& b) {
  return a.spec.id == b.spec.id && a.spec.space == b.spec.space;
}

}  // namespace

size_t SlotIndex::BlockOf(uint64_t key) const {
  const auto above =
      std::upper_bound(first_keys_.begin(), first_keys_.end(), key);
  return above == first_keys_.begin()
             ? 0
             : static_cast<size_t>(above - first_keys_.begin()) - 1;
}

const SlotIndex::Entry* SlotIndex::AtOrBelow(uint64_t key) const {
  if (blocks_.empty()) return nullptr;
  const std::vector<Entry>& entries = blocks_[BlockOf(key)]->entries;
  const auto above = std::upper_bound(
      entries.begin(), entries.end(), key,
      [](uint64_t k, const Entry& entry) { return k < entry.key; });
  return above == entries.begin() ? nullptr : &*(above - 1);
}

const SlotIndex::Entry* SlotIndex::Above(uint64_t key) const {
  if (blocks_.empty()) return nullptr;
  const size_t b = BlockOf(key);
  const std::vector<Entry>& entries = blocks_[b]->entries;
  const auto above = std::upper_bound(
      entries.begin(), entries.end(), key,
      [](uint64_t k, const Entry& entry) { return k < entry.key; });
  if (above != entries.end()) return &*above;
  return b + 1 < blocks_.size() ? &blocks_[b + 1]->entries.front() : nullptr;
}

std::shared_ptr<const SlotIndex::Block> SlotIndex::MakeBlock(
    std::vector<Entry> entries) {
  auto block = std::make_shared<Block>();
  for (const Entry& entry : entries) {
    block->max_end = std::max(block->max_end, entry.end);
  }
  block->entries = std::move(entries);
  return block;
}

SlotIndex SlotIndex::With(Entry entry) const {
  SlotIndex result = *this;
  ++result.size_;
  if (blocks_.empty()) {
    result.first_keys_.push_back(entry.key);
    result.blocks_.push_back(MakeBlock({std::move(entry)}));
    return result;
  }
  const size_t b = BlockOf(entry.key);
  std::vector<Entry> entries = blocks_[b]->entries;
  const auto at = std::upper_bound(
      entries.begin(), entries.end(), entry.key,
      [](uint64_t k, const Entry& other) { return k < other.key; });
  entries.insert(at, std::move(entry));
  const auto here = static_cast<std::ptrdiff_t>(b);
  if (entries.size() > kMaxBlock) {
    const auto half = entries.begin() + kMaxBlock / 2;
    std::vector<Entry> upper(half, entries.end());
    entries.erase(half, entries.end());
    result.first_keys_.insert(result.first_keys_.begin() + here + 1,
                              upper.front().key);
    result.blocks_.insert(result.blocks_.begin() + here + 1,
                          MakeBlock(std::move(upper)));
  }
  result.first_keys_[b] = entries.front().key;
  result.blocks_[b] = MakeBlock(std::move(entries));
  return result;
}

SlotIndex SlotIndex::Without(uint64_t key, const Memslot& slot) const {
  SlotIndex result = *this;
  // Equal keys may spill into the block before: its last entries.
  for (size_t b = BlockOf(key) + 1; b-- > 0;) {
    const std::vector<Entry>& old = blocks_[b]->entries;
    const auto found =
        std::find_if(old.begin(), old.end(), [&](const Entry& entry) {
          return entry.key == key && SameSlot(*entry.slot, slot);
        });
    if (found == old.end()) continue;
    std::vector<Entry> entries = old;
    entries.erase(entries.begin() + (found - old.begin()));
    --result.size_;
    const auto here = static_cast<std::ptrdiff_t>(b);
    if (entries.empty()) {
      result.first_keys_.erase(result.first_keys_.begin() + here);
      result.blocks_.erase(result.blocks_.begin() + here);
    } else {
      result.first_keys_[b] = entries.front().key;
      result.blocks_[b] = MakeBlock(std::move(entries));
    }
    return result;
  }
  SMMU_CHECK(false) << "no such slot in the index";
  return result;
}

}  // namespace shadowmmu
