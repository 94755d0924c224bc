// DirtyBitmap: which pages of one slot were written, one bit a 4K page: bit
// i % 64 of word i / 64 is the slot's page i. By page of the slot, not by gfn,
// so that it goes with the slot when that is moved.
//
//  1. Whoever stores into guest memory marks the page, AFTER the store: whoever
//     takes the bit sees the store, or finds the bit again next time. (The
//     other order loses it: bit taken, page copied, then the store.)
//  2. A CPU that stores through an spte marks nothing; so the page of a
//     writable spte is marked as long as it is writable. Take, and
//     write-protect, in one hold of the MMU lock.
//  3. That holds from Arm on, when all sptes of the slot are write-protected:
//     what was mapped before logging started has marked nothing.
//
// Locking: Mark and Test need none while the slot is there; Take and Arm the
// MMU lock.

#ifndef SHADOWMMU_MEMSLOT_DIRTY_BITMAP_H_
#define SHADOWMMU_MEMSLOT_DIRTY_BITMAP_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "shadowmmu/host.h"
#include "shadowmmu/memslot.h"
#include "src/base/check.h"

namespace shadowmmu {

class DirtyBitmap {
 public:
  static constexpr uint64_t kPagesPerWord = 64;

  // All clear. ResourceExhausted.
  static absl::StatusOr<std::shared_ptr<DirtyBitmap>> Create(Host& host,
                                                             uint64_t pages);
  ~DirtyBitmap();
  DirtyBitmap(const DirtyBitmap&) = delete;
  DirtyBitmap& operator=(const DirtyBitmap&) = delete;

  uint64_t words() const { return DirtyBitmapWords(pages_); }
  uint64_t bytes() const { return words() * sizeof(uint64_t); }

  // Always a read-modify-write, even if the bit is set: a plain look at it
  // could come before the store that it is to tell of (rule 1).
  void Mark(uint64_t page) {
    Word(page).fetch_or(BitOf(page), std::memory_order_release);
  }
  bool Test(uint64_t page) const {
    return (Word(page).load(std::memory_order_acquire) & BitOf(page)) != 0;
  }
  // Clears a word, and returns what it held.
  uint64_t Take(uint64_t word) {
    SMMU_DCHECK_LT(word, words());
    // Most words of a large slot are clear.
    if (words_[word].load(std::memory_order_acquire) == 0) return 0;
    return words_[word].exchange(0, std::memory_order_acq_rel);
  }

  bool armed() const { return armed_; }
  void Arm() { armed_ = true; }

 private:
  DirtyBitmap(Host& host, uint64_t pages) : host_(host), pages_(pages) {}

  static uint64_t BitOf(uint64_t page) {
    return uint64_t{1} << page % kPagesPerWord;
  }
  std::atomic<uint64_t>& Word(uint64_t page) const {
    SMMU_DCHECK_LT(page, pages_);
    return words_[page / kPagesPerWord];
  }

  Host& host_;
  const uint64_t pages_;
  std::atomic<uint64_t>* words_ = nullptr;
  bool armed_ = false;
};

}  // namespace shadowmmu

#endif  // SHADOWMMU_MEMSLOT_DIRTY_BITMAP_H_
