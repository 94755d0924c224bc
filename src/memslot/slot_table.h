// SlotTable: all slots of a VM at one moment: an immutable version, found by
// gfn, by host address and by id.
//
//  1. Slots of one address space do not overlap in gfns; their host ranges may.
//  2. Every slot, INVALID ones included, is in all three indices.
//  3. `generation` is the memslot generation: each version has a greater one.
//
// Thread safety: immutable. Readers get at the current version through
// SlotRegistry. Building a version may throw std::bad_alloc.

#ifndef SHADOWMMU_MEMSLOT_SLOT_TABLE_H_
#define SHADOWMMU_MEMSLOT_SLOT_TABLE_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "shadowmmu/address.h"
#include "src/memslot/memslot.h"
#include "src/memslot/slot_index.h"

namespace shadowmmu {

class SlotTable {
 public:
  uint64_t generation() const { return generation_; }
  size_t size() const { return by_hva_.size(); }

  // The slot that covers `gfn`, live or INVALID; nullptr if none. An address
  // space that does not exist has no slots.
  const Memslot* Find(AddressSpace space, Gfn gfn) const;
  std::shared_ptr<const Memslot> FindById(AddressSpace space, SlotId id) const;
  // A slot whose gfns overlap `gfns`, other than the one with `except`.
  const Memslot* FindOverlap(AddressSpace space, GfnRange gfns,
                             const SlotId* except) const;
  // Calls visit(const Memslot&, GfnRange) for each slot that covers part of
  // `gfns`, with that part.
  template <typename Visit>
  void ForEachInGfnRange(AddressSpace space, GfnRange gfns, Visit visit) const;
  // Calls visit(const Memslot&, GfnRange) for each slot that has memory in
  // `hvas`, with the gfns of that memory (whole pages).
  template <typename Visit>
  void ForEachInHvaRange(HvaRange hvas, Visit visit) const;
  // The first host address from `from` on that any slot has.
  std::optional<Hva> NextHva(Hva from) const;
  // By address space, then by base.
  template <typename Visit>
  void ForEach(Visit visit) const;

  std::unique_ptr<const SlotTable> With(
      std::shared_ptr<const Memslot> slot) const;
  std::unique_ptr<const SlotTable> Without(const Memslot& slot) const;
  // `slot` takes the place of the one with its id, whatever its base.
  std::unique_ptr<const SlotTable> Replacing(
      std::shared_ptr<const Memslot> slot) const;

 private:
  void Insert(std::shared_ptr<const Memslot> slot);
  void Erase(const Memslot& slot);

  uint64_t generation_ = 0;
  SlotIndex by_gfn_[kAddressSpaces];
  SlotIndex by_id_[kAddressSpaces];
  SlotIndex by_hva_;
};

// A reader's memory of its last lookups: most hit the same slots again. Each
// 128 MiB of gfns has two places, so that a reader that goes back and forth
// between slots keeps both; those 8 GiB away share them. Good for one
// SlotTable; an older or newer one misses.
class SlotCache {
 public:
  const Memslot* Find(const SlotTable& table, AddressSpace space, Gfn gfn) {
    const Memslot* slot = place_[SetOf(gfn)][0];
    if (generation_ == table.generation() && Covers(slot, space, gfn)) {
      return slot;
    }
    return FindSlow(table, space, gfn);
  }

 private:
  static constexpr size_t kSets = 64;
  static constexpr unsigned kShift = 15;
  static size_t SetOf(Gfn gfn) { return gfn.value() >> kShift & (kSets - 1); }
  static bool Covers(const Memslot* slot, AddressSpace space, Gfn gfn) {
    return slot != nullptr && slot->spec.space == space && slot->Contains(gfn);
  }
  const Memslot* FindSlow(const SlotTable& table, AddressSpace space, Gfn gfn);

  uint64_t generation_ = ~uint64_t{0};
  std::array<std::array<const Memslot*, 2>, kSets> place_{};
};

template <typename Visit>
void SlotTable::ForEachInHvaRange(HvaRange hvas, Visit visit) const {
  if (hvas.bytes == 0) return;
  const uint64_t first = hvas.begin.value() & ~kPageOffsetMask;
  const uint64_t last = (hvas.end() - 1).value() | kPageOffsetMask;
  // Ranges are inclusive here: the last page of the address space has no end.
  by_hva_.ForEachOverlap(first, last, [&](const Memslot& slot) {
    const HvaRange own = slot.spec.hvas();
    const Hva begin(std::max(first, own.begin.value()));
    const Hva end(std::min(last, (own.end() - 1).value()));
    const Gfn base = slot.ToGfn(begin);
    visit(slot, GfnRange{base, slot.ToGfn(end) - base + 1});
  });
}

template <typename Visit>
void SlotTable::ForEachInGfnRange(AddressSpace space, GfnRange gfns,
                                  Visit visit) const {
  const SlotIndex& index = by_gfn_[ToInt(space)];
  const SlotIndex::Entry* entry = index.AtOrBelow(gfns.begin.value());
  if (entry == nullptr || entry->end <= gfns.begin.value()) {
    entry = index.Above(gfns.begin.value());
  }
  for (; entry != nullptr && entry->key < gfns.end().value();
       entry = index.Above(entry->key)) {
    const Gfn begin = std::max(gfns.begin, entry->slot->spec.base);
    const Gfn end = std::min(gfns.end(), entry->slot->spec.gfns().end());
    visit(*entry->slot, GfnRange{begin, end - begin});
  }
}

template <typename Visit>
void SlotTable::ForEach(Visit visit) const {
  for (const SlotIndex& index : by_gfn_) index.ForEach(visit);
}

}  // namespace shadowmmu

#endif  // SHADOWMMU_MEMSLOT_SLOT_TABLE_H_
