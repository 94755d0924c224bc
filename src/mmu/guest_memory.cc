#include "src/mmu/guest_memory.h"

#include <algorithm>
#include <sstream>

namespace shadowmmu {

TouchResult GuestMemory::Read(const Section&, Hva hva,
                              std::span<std::byte> out) {
  if (Blocks({hva, out.size()})) return TouchResult::kBlocked;
  return host_.TryRead(hva, out) ? TouchResult::kDone
                                 : TouchResult::kUnavailable;
}

TouchResult GuestMemory::Write(const Section&, Hva hva,
                               std::span<const std::byte> bytes) {
  if (Blocks({hva, bytes.size()})) return TouchResult::kBlocked;
  return host_.TryWrite(hva, bytes) ? TouchResult::kDone
                                    : TouchResult::kUnavailable;
}

TouchResult GuestMemory::CompareExchange(const Section&, Hva hva, unsigned size,
                                         uint64_t* expected, uint64_t desired,
                                         bool* exchanged) {
  *exchanged = false;
  if (Blocks({hva, size})) return TouchResult::kBlocked;
  switch (host_.TryCompareExchange(hva, size, expected, desired)) {
    case ExchangeResult::kExchanged:
      *exchanged = true;
      return TouchResult::kDone;
    case ExchangeResult::kDifferent:
      return TouchResult::kDone;
    case ExchangeResult::kUnavailable:
      break;
  }
  return TouchResult::kUnavailable;
}

HvaRange GuestMemory::WholePages(HvaRange hvas) {
  const Hva begin(hvas.begin.value() & ~kPageOffsetMask);
  const Hva last((hvas.end() - 1).value() | kPageOffsetMask);
  const uint64_t bytes = last - begin + 1;  // 0: all of the address space
  return {begin, bytes == 0 ? ~uint64_t{0} : bytes};
}

void GuestMemory::Block(HvaRange hvas) {
  {
    MutexLock lock(&blocked_lock_);
    if (noted_ < kMaxRanges) {
      blocked_[noted_++] = WholePages(hvas);
    } else {
      ++overflow_;
    }
    blocked_count_.fetch_add(1, std::memory_order_seq_cst);
  }
  // A section that began before the count was raised may have found nothing
  // blocked; one that begins later finds the range.
  sections_.Synchronize();
}

absl::Status GuestMemory::Unblock(HvaRange hvas) {
  MutexLock lock(&blocked_lock_);
  const auto end = blocked_.begin() + noted_;
  const auto found = std::find(blocked_.begin(), end, WholePages(hvas));
  if (found == end && overflow_ == 0) {
    std::ostringstream text;
    text << "hvas: no invalidation of " << hvas.bytes << " bytes at "
         << hvas.begin << " was begun";
    return absl::InvalidArgumentError(text.str());
  }
  sequence_.fetch_add(1, std::memory_order_seq_cst);
  if (found == end) {
    --overflow_;
  } else {
    *found = blocked_[--noted_];
  }
  blocked_count_.fetch_sub(1, std::memory_order_seq_cst);
  return absl::OkStatus();
}

bool GuestMemory::Blocks(HvaRange hvas) const {
  return blocked_count_.load(std::memory_order_seq_cst) != 0 &&
         BlocksSlow(hvas);
}

bool GuestMemory::BlocksSlow(HvaRange hvas) const {
  MutexLock lock(&blocked_lock_);
  return overflow_ != 0 ||
         std::any_of(
             blocked_.begin(), blocked_.begin() + noted_,
             [&](const HvaRange& blocked) { return blocked.Overlaps(hvas); });
}

}  // namespace shadowmmu
