// FrontTlb: which user accesses need not be put to the CPU model, because its
// TLB would let them through. It saves the model's lock and hash tables on the
// path that nearly all accesses take.
//
// Rules:
//  1. It holds nothing that the model's TLB does not hold: an access is noted
//     when the model has just let it through, and whatever drops entries of the
//     model's TLB (a flush, a load of CR3, a page fault) drops them here.
//  2. It holds rights, not addresses: whoever needs the place in memory asks
//     the model.
//
// Direct-mapped. Thread safety: none.

#ifndef SHADOWMMU_BENCH_REPLAY_FRONT_TLB_H_
#define SHADOWMMU_BENCH_REPLAY_FRONT_TLB_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "shadowmmu/access.h"
#include "shadowmmu/address.h"
#include "shadowmmu/host.h"

namespace shadowmmu::replay {

class FrontTlb {
 public:
  bool Allows(Gva gva, AccessType type) const {
    const uint64_t page = PageOf(gva);
    // All bits of the page, and the one of the type.
    const uint64_t entry = entries_[IndexOf(page)];
    return (entry >> kTypes) == page && (entry & BitOf(type)) != 0;
  }

  void Note(Gva gva, AccessType type) {
    const uint64_t page = PageOf(gva);
    uint64_t& entry = entries_[IndexOf(page)];
    if ((entry >> kTypes) != page) entry = page << kTypes;
    entry |= BitOf(type);
  }

  void Flush(FlushRange range) {
    if (range.all() || range.pages >= kEntries) {
      entries_.fill(0);
      return;
    }
    for (uint64_t i = 0; i < range.pages; ++i) {
      FlushPage(range.begin + i * kPageSize);
    }
  }
  void FlushPage(Gva gva) { entries_[IndexOf(PageOf(gva))] = 0; }

 private:
  static constexpr size_t kEntries = 1024;
  static constexpr unsigned kTypes = 3;

  static constexpr uint64_t PageOf(Gva gva) {
    return gva.value() >> kPageShift;
  }
  // Stacks, heaps and texts begin at round addresses: fold in what is above.
  static constexpr size_t IndexOf(uint64_t page) {
    return (page ^ (page >> 9) ^ (page >> 19)) % kEntries;
  }
  static constexpr uint64_t BitOf(AccessType type) {
    return uint64_t{1} << static_cast<unsigned>(type);
  }

  // The page's number above one bit for each type; 0: nothing.
  std::array<uint64_t, kEntries> entries_{};
};

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_FRONT_TLB_H_
