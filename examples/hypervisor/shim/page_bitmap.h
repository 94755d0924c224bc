// A set of pages of the first 4 GiB: one bit a page, and searches in both
// directions that look at 64 pages at a time.
//
// Thread safety: none; the owner's.

#ifndef HYPERVISOR_SHIM_PAGE_BITMAP_H_
#define HYPERVISOR_SHIM_PAGE_BITMAP_H_

#include <cstddef>
#include <cstdint>

namespace hypervisor {

// Page numbers [begin, end).
struct PageRange {
  size_t begin = 0;
  size_t end = 0;

  constexpr size_t pages() const { return end - begin; }
  friend constexpr bool operator==(const PageRange&,
                                   const PageRange&) = default;
};

class PageBitmap {
 public:
  static constexpr size_t kPages = size_t{1} << 20;

  constexpr PageBitmap() = default;

  // Put the pages in, or take them out; those that are in or out already stay
  // so.
  void Insert(PageRange range);
  void Remove(PageRange range);

  bool Contains(size_t page) const {
    return words_[page / 64] >> (page % 64) & 1;
  }
  bool ContainsAll(PageRange range) const {
    return FirstOut(range) == range.end;
  }

  // The first page of `range` that is in / out; range.end if there is none.
  size_t FirstIn(PageRange range) const { return First(range, 0); }
  size_t FirstOut(PageRange range) const { return First(range, ~uint64_t{0}); }

  // One more than the last page below `end` that is in / out; 0 if there is
  // none.
  size_t EndOfLastIn(size_t end) const { return EndOfLast(end, 0); }
  size_t EndOfLastOut(size_t end) const { return EndOfLast(end, ~uint64_t{0}); }

  size_t Count() const;

 private:
  // `flip` is 0 to look for ones, all ones to look for zeros.
  size_t First(PageRange range, uint64_t flip) const;
  size_t EndOfLast(size_t end, uint64_t flip) const;

  uint64_t words_[kPages / 64] = {};
};

}  // namespace hypervisor

#endif  // HYPERVISOR_SHIM_PAGE_BITMAP_H_
