// Memslot: one slot as readers of the slot table see it. Immutable: every
// change publishes a new one, which shares the rmaps with the one before.
//
//  1. A slot is live, or INVALID: INVALID slots translate nothing, but their
//     rmaps are still there for zaps and notifiers to find.
//  2. Two generations of one slot share one SlotRmaps as long as its gfns stay,
//     and one DirtyBitmap as long as it logs, wherever it is moved.
//  3. A slot has a DirtyBitmap if and only if its flags say kLogDirty.

#ifndef SHADOWMMU_MEMSLOT_MEMSLOT_H_
#define SHADOWMMU_MEMSLOT_MEMSLOT_H_

#include <cstdint>
#include <memory>

#include "shadowmmu/address.h"
#include "shadowmmu/memslot.h"
#include "src/memslot/dirty_bitmap.h"
#include "src/rmap/slot_rmaps.h"

namespace shadowmmu {

enum class SlotState : uint8_t { kLive, kInvalid };

struct Memslot {
  SlotSpec spec;
  SlotState state = SlotState::kLive;
  std::shared_ptr<SlotRmaps> rmaps;
  std::shared_ptr<DirtyBitmap> dirty = nullptr;

  bool live() const { return state == SlotState::kLive; }
  bool read_only() const { return Has(spec.flags, SlotFlags::kReadOnly); }
  bool logs_dirty() const { return dirty != nullptr; }
  bool Contains(Gfn gfn) const { return spec.gfns().Contains(gfn); }
  // Precondition of both: the slot contains the argument.
  Hva ToHva(Gfn gfn) const {
    return spec.hva + ((gfn - spec.base) << kPageShift);
  }
  Gfn ToGfn(Hva hva) const {
    return spec.base + ((hva - spec.hva) >> kPageShift);
  }

  // A store has gone into the page, or an spte that lets stores through comes
  // (dirty_bitmap.h). Precondition of both: the slot contains the argument.
  void MarkDirty(Gfn gfn) const {
    if (logs_dirty()) dirty->Mark(gfn - spec.base);
  }
  // Whether an spte may map the page writable with no store at hand.
  bool MayBeWritable(Gfn gfn) const {
    return !logs_dirty() || dirty->Test(gfn - spec.base);
  }
};

}  // namespace shadowmmu

#endif  // SHADOWMMU_MEMSLOT_MEMSLOT_H_
