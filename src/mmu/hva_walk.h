// HvaWalk: a range of host memory in parts, each short enough for one hold of
// the MMU lock. What no slot has is skipped.
//
//   for (HvaWalk walk(hvas); !walk.done();) {
//     ... hold the lock, do walk.part() ...
//     walk.Next(slot table);
//     ... the lock may be dropped ...
//   }
//
// Thread safety: one thread.

#ifndef SHADOWMMU_MMU_HVA_WALK_H_
#define SHADOWMMU_MMU_HVA_WALK_H_

#include <algorithm>
#include <cstdint>
#include <optional>

#include "shadowmmu/address.h"
#include "src/memslot/slot_table.h"

namespace shadowmmu {

class HvaWalk {
 public:
  // 4096 pages; slots may map them more than once.
  static constexpr uint64_t kBytesAtOnce = uint64_t{16} << 20;

  // Precondition: not empty, and does not wrap.
  explicit HvaWalk(HvaRange hvas) : rest_(hvas) {}

  bool done() const { return rest_.bytes == 0; }
  HvaRange part() const {
    return {rest_.begin, std::min(kBytesAtOnce, rest_.bytes)};
  }
  void Next(const SlotTable& slots) {
    const uint64_t walked = part().bytes;
    rest_ = {rest_.begin + walked, rest_.bytes - walked};
    if (done()) return;
    const std::optional<Hva> next = slots.NextHva(rest_.begin);
    const uint64_t empty = next ? *next - rest_.begin : rest_.bytes;
    rest_ = empty < rest_.bytes ? HvaRange{*next, rest_.bytes - empty}
                                : HvaRange{rest_.begin, 0};
  }

 private:
  HvaRange rest_;
};

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_HVA_WALK_H_
