#include "shim/page_allocator.h"

#include "boot/freestanding.h"
#include "shadowmmu/address.h"

namespace hypervisor {

using shadowmmu::kPageSize;

void PageAllocator::Add(PageRange range, Contents contents) {
  added_.Insert(range);
  free_.Insert(range);
  if (contents == Contents::kUnknown) dirty_.Insert(range);
}

std::optional<PageRange> PageAllocator::Allocate(size_t pages,
                                                 size_t alignment) {
  // Each round looks at one run of free pages, from the highest down.
  size_t end = PageBitmap::kPages;
  while ((end = free_.EndOfLastIn(end)) >= pages) {
    const size_t begin = free_.EndOfLastOut(end);
    const size_t first = AlignDown(end - pages, alignment);
    if (first >= begin) {
      const PageRange range = {first, first + pages};
      Take(range);
      return range;
    }
    end = begin;
  }
  return std::nullopt;
}

bool PageAllocator::Claim(PageRange range) {
  if (!free_.ContainsAll(range)) return false;
  Take(range);
  return true;
}

void PageAllocator::Release(PageRange range) {
  while (range.begin < range.end) {
    const PageRange run = {added_.FirstIn(range),
                           added_.FirstOut({added_.FirstIn(range), range.end})};
    free_.Insert(run);
    range.begin = run.end;
  }
}

void PageAllocator::Zero(PageRange range) {
  ZeroPages(reinterpret_cast<void*>(base_ + range.begin * kPageSize),
            range.pages() * kPageSize);
}

void PageAllocator::Take(PageRange range) {
  free_.Remove(range);
  PageRange rest = range;
  while ((rest.begin = dirty_.FirstIn(rest)) < rest.end) {
    const PageRange run = {rest.begin, dirty_.FirstOut(rest)};
    Zero(run);
    rest.begin = run.end;
  }
  dirty_.Insert(range);
}

}  // namespace hypervisor
