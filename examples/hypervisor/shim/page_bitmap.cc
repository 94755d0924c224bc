#include "shim/page_bitmap.h"

#include <bit>

namespace hypervisor {
namespace {

// The bits of word `word` that lie in `range`, which touches it.
uint64_t MaskOf(size_t word, PageRange range) {
  uint64_t mask = ~uint64_t{0};
  if (range.begin > word * 64) mask &= ~uint64_t{0} << (range.begin % 64);
  if (range.end < (word + 1) * 64) mask &= ~(~uint64_t{0} << (range.end % 64));
  return mask;
}

}  // namespace

void PageBitmap::Insert(PageRange range) {
  for (size_t word = range.begin / 64; word * 64 < range.end; ++word) {
    words_[word] |= MaskOf(word, range);
  }
}

void PageBitmap::Remove(PageRange range) {
  for (size_t word = range.begin / 64; word * 64 < range.end; ++word) {
    words_[word] &= ~MaskOf(word, range);
  }
}

size_t PageBitmap::First(PageRange range, uint64_t flip) const {
  for (size_t word = range.begin / 64; word * 64 < range.end; ++word) {
    const uint64_t found = (words_[word] ^ flip) & MaskOf(word, range);
    if (found != 0) return word * 64 + std::countr_zero(found);
  }
  return range.end;
}

size_t PageBitmap::EndOfLast(size_t end, uint64_t flip) const {
  for (size_t words = (end + 63) / 64; words != 0; --words) {
    const uint64_t found =
        (words_[words - 1] ^ flip) & MaskOf(words - 1, {0, end});
    if (found != 0) return words * 64 - std::countl_zero(found);
  }
  return 0;
}

size_t PageBitmap::Count() const {
  size_t count = 0;
  for (const uint64_t word : words_) {
    for (uint64_t rest = word; rest != 0; rest &= rest - 1) ++count;
  }
  return count;
}

}  // namespace hypervisor
