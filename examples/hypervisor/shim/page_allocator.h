// Hands out pages of the free RAM, zeroed.
//
//  1. A page is free, or somebody's; only pages that were added are ever free.
//  2. What Allocate and Claim give reads as zero. A page that nobody has had
//     since boot is so already, and is not touched: a guest of 512 MiB costs no
//     time until it uses them. A page that may hold something is marked dirty.
//  3. Allocate takes the highest place that is large enough, so that the low
//     end stays for what grows upwards in place (brk).
//
// Where memory is comes in as `base`, the address of page 0: 0 in the
// hypervisor.
//
// Thread safety: none; the owner's.

#ifndef HYPERVISOR_SHIM_PAGE_ALLOCATOR_H_
#define HYPERVISOR_SHIM_PAGE_ALLOCATOR_H_

#include <cstddef>
#include <cstdint>
#include <optional>

#include "shim/page_bitmap.h"

namespace hypervisor {

enum class Contents : uint8_t { kZero, kUnknown };

class PageAllocator {
 public:
  constexpr explicit PageAllocator(uintptr_t base) : base_(base) {}
  PageAllocator(const PageAllocator&) = delete;
  PageAllocator& operator=(const PageAllocator&) = delete;

  // Makes pages free. Precondition: they are not.
  void Add(PageRange range, Contents contents);

  // `pages` pages in a row, the first a multiple of `alignment` pages (a power
  // of two); nullopt if there is no such place. Precondition: pages > 0.
  std::optional<PageRange> Allocate(size_t pages, size_t alignment);

  // Exactly these pages; false, and nothing is changed, if one is not free.
  bool Claim(PageRange range);

  // Gives pages back. Those that are free, or were never added, stay as they
  // are: munmap may name both.
  void Release(PageRange range);

  // Sets pages that somebody has to zero, and keeps them his.
  void Zero(PageRange range);

  size_t FreePages() const { return free_.Count(); }
  size_t AddedPages() const { return added_.Count(); }
  bool IsFree(size_t page) const { return free_.Contains(page); }

 private:
  // Takes free pages for somebody.
  void Take(PageRange range);

  const uintptr_t base_;
  PageBitmap added_;
  PageBitmap free_;
  PageBitmap dirty_;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_SHIM_PAGE_ALLOCATOR_H_
