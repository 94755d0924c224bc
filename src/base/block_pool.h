// BlockPool: objects of one size, named by 32-bit indices instead of pointers,
// in blocks of memory that are got from the Host before any lock is taken.
//
//  1. Index 0 is nil and is never handed out.
//  2. Take never allocates: the caller has made sure of available() first, and
//     grows the pool outside its lock (Grow) where it is short.
//  3. Objects come zeroed the first time only. Later Take hands out what Put or
//     Reset left, but for the first 4 bytes, where the free list was.
//  4. Memory goes back to the Host when the pool dies, not before.
//
// Locking: none of its own. All members but AllocateBlock are to be called
// under the lock that guards the pool.

#ifndef SHADOWMMU_BASE_BLOCK_POOL_H_
#define SHADOWMMU_BASE_BLOCK_POOL_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <type_traits>

#include "shadowmmu/host.h"
#include "src/base/check.h"

namespace shadowmmu {

template <typename T>
class BlockPool {
  static_assert(std::is_trivially_copyable_v<T>);
  static_assert(sizeof(T) >= sizeof(uint32_t));

 public:
  // `max_objects` bounds what Grow may ever add. A block holds
  // 2^`block_shift` objects.
  BlockPool(Host& host, uint32_t max_objects, unsigned block_shift)
      : host_(host),
        block_shift_(block_shift),
        index_mask_((uint32_t{1} << block_shift) - 1),
        max_blocks_((uint64_t{max_objects} + block_size()) >> block_shift) {
    SMMU_CHECK_GE(max_blocks_, 1u);
  }
  ~BlockPool() {
    if (directory_ == nullptr) return;
    for (uint64_t i = 0; i < blocks_; ++i) {
      host_.Free(directory_[i], block_bytes());
    }
    host_.Free(directory_, max_blocks_ * sizeof(T*));
  }
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  // Gets the directory. Once, before any other call; false: no memory.
  [[nodiscard]] bool Init() {
    directory_ =
        static_cast<T**>(host_.AllocateZeroed(max_blocks_ * sizeof(T*)));
    return directory_ != nullptr;
  }

  T& operator[](uint32_t index) {
    SMMU_DCHECK_NE(index, 0u);
    SMMU_DCHECK_LT(index >> block_shift_, blocks_);
    return directory_[index >> block_shift_][index & index_mask_];
  }
  const T& operator[](uint32_t index) const {
    SMMU_DCHECK_NE(index, 0u);
    SMMU_DCHECK_LT(index >> block_shift_, blocks_);
    return directory_[index >> block_shift_][index & index_mask_];
  }

  // Whether the index names memory of the pool, in use or not.
  bool Exists(uint32_t index) const {
    return index != 0 && index >> block_shift_ < blocks_;
  }

  // How many Takes cannot fail from here.
  uint32_t available() const { return available_; }
  uint32_t in_use() const { return in_use_; }
  bool at_limit() const { return blocks_ == max_blocks_; }
  uint64_t bytes() const {
    return directory_ == nullptr
               ? 0
               : blocks_ * block_bytes() + max_blocks_ * sizeof(T*);
  }

  uint32_t Take() {
    SMMU_CHECK_GT(available_, 0u) << "pool taken from without a reservation";
    --available_;
    ++in_use_;
    if (free_ != 0) {
      const uint32_t index = free_;
      std::memcpy(&free_, &(*this)[index], sizeof(free_));
      return index;
    }
    return next_fresh_++;
  }

  void Put(uint32_t index) {
    SMMU_DCHECK_GT(in_use_, 0u);
    std::memcpy(static_cast<void*>(&(*this)[index]), &free_, sizeof(free_));
    free_ = index;
    ++available_;
    --in_use_;
  }

  // Takes everything back at once, whoever has it: the cost does not depend on
  // how much that is. What the objects hold stays (3).
  void Reset() {
    available_ += in_use_;
    in_use_ = 0;
    free_ = 0;
    next_fresh_ = blocks_ == 0 ? 0 : 1;
  }

  // Memory for one more block, or nullptr. No lock needed, none held.
  T* AllocateBlock() {
    return static_cast<T*>(host_.AllocateZeroed(block_bytes()));
  }
  // Adds a block from AllocateBlock. At the limit (another thread grew the
  // pool meanwhile) it is given back to the caller, who frees it.
  [[nodiscard]] T* AddBlock(T* block) {
    if (at_limit()) return block;
    directory_[blocks_] = block;
    if (blocks_ == 0) next_fresh_ = 1;  // 0 is nil
    available_ += block_size() - (blocks_ == 0 ? 1 : 0);
    ++blocks_;
    return nullptr;
  }
  void FreeBlock(T* block) {
    if (block != nullptr) host_.Free(block, block_bytes());
  }

 private:
  uint32_t block_size() const { return index_mask_ + 1; }
  uint64_t block_bytes() const { return uint64_t{block_size()} * sizeof(T); }

  Host& host_;
  const unsigned block_shift_;
  const uint32_t index_mask_;
  const uint64_t max_blocks_;
  T** directory_ = nullptr;
  uint64_t blocks_ = 0;
  uint32_t free_ = 0;        // head of the list of objects that were put back
  uint32_t next_fresh_ = 0;  // first object that was never taken
  uint32_t available_ = 0;
  uint32_t in_use_ = 0;
};

}  // namespace shadowmmu

#endif  // SHADOWMMU_BASE_BLOCK_POOL_H_
