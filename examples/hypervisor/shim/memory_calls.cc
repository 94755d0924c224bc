#include "shim/memory_calls.h"

#include <asm/errno.h>
#include <linux/mman.h>

#include <optional>

#include "boot/freestanding.h"
#include "boot/spin_lock.h"
#include "shim/page_allocator.h"

namespace hypervisor {
namespace {

using shadowmmu::HvaRange;
using shadowmmu::kPageSize;

constexpr uint64_t kLargePage = uint64_t{2} << 20;
constexpr uint64_t kHighest = uint64_t{1} << 32;

constinit SpinLock lock;
constinit PageAllocator allocator ABSL_GUARDED_BY(lock) = PageAllocator(0);
constinit uint64_t break_start ABSL_GUARDED_BY(lock) = 0;
constinit uint64_t break_now ABSL_GUARDED_BY(lock) = 0;

// The pages that [address, address + bytes) touches; nullopt if that is not
// within the first 4 GiB or does not begin with a page.
std::optional<PageRange> PagesOf(uint64_t address, uint64_t bytes) {
  if (address % kPageSize != 0) return std::nullopt;
  if (address > kHighest || bytes > kHighest - address) return std::nullopt;
  return PageRange{address / kPageSize,
                   AlignUp(address + bytes, kPageSize) / kPageSize};
}

int64_t MapAt(PageRange range, bool may_replace)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock) {
  if (may_replace) {
    allocator.Release(range);
  }
  if (!allocator.Claim(range)) return may_replace ? -ENOMEM : -EEXIST;
  return static_cast<int64_t>(range.begin * kPageSize);
}

}  // namespace

void InitShimMemory(std::span<const HvaRange> ram, HvaRange image) {
  // What the firmware and the loader may have written to and call free: the low
  // end, and the high end of each range. (SeaBIOS leaves its own code below the
  // last multiple of 16 MiB.)
  constexpr uint64_t kLow = uint64_t{16} << 20;
  constexpr uint64_t kHighEnd = uint64_t{32} << 20;
  const SpinLockScope hold(lock);
  for (const HvaRange& range : ram) {
    const uint64_t begin = range.begin.value();
    const uint64_t end = range.end().value();
    uint64_t zero_begin = begin < kLow ? kLow : begin;
    if (zero_begin > end) zero_begin = end;
    uint64_t zero_end = end < kHighEnd ? 0 : end - kHighEnd;
    if (zero_end < zero_begin) zero_end = zero_begin;
    allocator.Add({begin / kPageSize, zero_begin / kPageSize},
                  Contents::kUnknown);
    allocator.Add({zero_begin / kPageSize, zero_end / kPageSize},
                  Contents::kZero);
    allocator.Add({zero_end / kPageSize, end / kPageSize}, Contents::kUnknown);
  }
  break_start = AlignUp(image.end().value(), kPageSize);
  break_now = break_start;
}

int64_t MapCall(uint64_t address, uint64_t bytes, uint64_t flags) {
  if (!(flags & MAP_ANONYMOUS)) return -ENODEV;
  if (bytes == 0 || bytes > kHighest) return -ENOMEM;
  const SpinLockScope hold(lock);
  if (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) {
    const std::optional<PageRange> range = PagesOf(address, bytes);
    if (!range.has_value()) return -EINVAL;
    return MapAt(*range, (flags & MAP_FIXED_NOREPLACE) == 0);
  }
  const std::optional<PageRange> range =
      allocator.Allocate(AlignUp(bytes, kPageSize) / kPageSize,
                         bytes >= kLargePage ? kLargePage / kPageSize : 1);
  if (!range.has_value()) return -ENOMEM;
  return static_cast<int64_t>(range->begin * kPageSize);
}

int64_t UnmapCall(uint64_t address, uint64_t bytes) {
  const std::optional<PageRange> range = PagesOf(address, bytes);
  if (!range.has_value() || bytes == 0) return -EINVAL;
  const SpinLockScope hold(lock);
  allocator.Release(*range);
  return 0;
}

int64_t RemapCall(uint64_t address, uint64_t old_bytes, uint64_t new_bytes) {
  const std::optional<PageRange> old_range = PagesOf(address, old_bytes);
  const std::optional<PageRange> new_range = PagesOf(address, new_bytes);
  if (!old_range.has_value() || !new_range.has_value() || new_bytes == 0) {
    return -EINVAL;
  }
  const SpinLockScope hold(lock);
  // In place or not at all: realloc copies when it is told no.
  if (new_range->end < old_range->end) {
    allocator.Release({new_range->end, old_range->end});
  } else if (!allocator.Claim({old_range->end, new_range->end})) {
    return -ENOMEM;
  }
  return static_cast<int64_t>(address);
}

int64_t BreakCall(uint64_t address) {
  const SpinLockScope hold(lock);
  // The kernel answers an impossible wish with the break as it is.
  if (address < break_start || address > kHighest) {
    return static_cast<int64_t>(break_now);
  }
  const size_t end_now = AlignUp(break_now, kPageSize) / kPageSize;
  const size_t end_new = AlignUp(address, kPageSize) / kPageSize;
  if (end_new < end_now) {
    allocator.Release({end_new, end_now});
  } else if (!allocator.Claim({end_now, end_new})) {
    return static_cast<int64_t>(break_now);
  }
  break_now = address;
  return static_cast<int64_t>(break_now);
}

int64_t AdviseCall(uint64_t address, uint64_t bytes, uint64_t advice) {
  const std::optional<PageRange> range = PagesOf(address, bytes);
  if (!range.has_value()) return -EINVAL;
  // The only advice that promises something: the pages then read as zero.
  if (advice == MADV_DONTNEED) {
    const SpinLockScope hold(lock);
    allocator.Zero(*range);
  }
  return 0;
}

uint64_t TotalMemory() {
  const SpinLockScope hold(lock);
  return allocator.AddedPages() * kPageSize;
}

uint64_t FreeMemory() {
  const SpinLockScope hold(lock);
  return allocator.FreePages() * kPageSize;
}

}  // namespace hypervisor
