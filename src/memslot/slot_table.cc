#include "src/memslot/slot_table.h"

#include <utility>

namespace shadowmmu {

const Memslot* SlotTable::Find(AddressSpace space, Gfn gfn) const {
  if (ToInt(space) >= kAddressSpaces) return nullptr;
  const SlotIndex::Entry* entry = by_gfn_[ToInt(space)].AtOrBelow(gfn.value());
  return entry != nullptr && gfn.value() < entry->end ? entry->slot.get()
                                                      : nullptr;
}

std::shared_ptr<const Memslot> SlotTable::FindById(AddressSpace space,
                                                   SlotId id) const {
  if (ToInt(space) >= kAddressSpaces) return nullptr;
  const SlotIndex::Entry* entry = by_id_[ToInt(space)].AtOrBelow(ToInt(id));
  return entry != nullptr && entry->key == ToInt(id) ? entry->slot : nullptr;
}

const Memslot* SlotTable::FindOverlap(AddressSpace space, GfnRange gfns,
                                      const SlotId* except) const {
  const Memslot* found = nullptr;
  ForEachInGfnRange(space, gfns, [&](const Memslot& slot, GfnRange) {
    if (except == nullptr || slot.spec.id != *except) found = &slot;
  });
  return found;
}

void SlotTable::Insert(std::shared_ptr<const Memslot> slot) {
  const SlotSpec& spec = slot->spec;
  SlotIndex& by_gfn = by_gfn_[ToInt(spec.space)];
  SlotIndex& by_id = by_id_[ToInt(spec.space)];
  by_gfn = by_gfn.With({spec.base.value(), spec.gfns().end().value(), slot});
  by_id = by_id.With({ToInt(spec.id), uint64_t{ToInt(spec.id)} + 1, slot});
  by_hva_ = by_hva_.With(
      {spec.hva.value(), (spec.hvas().end() - 1).value(), std::move(slot)});
}

void SlotTable::Erase(const Memslot& slot) {
  const SlotSpec& spec = slot.spec;
  SlotIndex& by_gfn = by_gfn_[ToInt(spec.space)];
  SlotIndex& by_id = by_id_[ToInt(spec.space)];
  by_gfn = by_gfn.Without(spec.base.value(), slot);
  by_id = by_id.Without(ToInt(spec.id), slot);
  by_hva_ = by_hva_.Without(spec.hva.value(), slot);
}

std::optional<Hva> SlotTable::NextHva(Hva from) const {
  // As in ForEachInHvaRange.
  const uint64_t first = from.value() & ~kPageOffsetMask;
  const uint64_t last = from.value() | kPageOffsetMask;
  bool here = false;
  by_hva_.ForEachOverlap(first, last, [&](const Memslot&) { here = true; });
  if (here) return from;
  const SlotIndex::Entry* next = by_hva_.Above(from.value());
  if (next == nullptr) return std::nullopt;
  return Hva(next->key);
}

std::unique_ptr<const SlotTable> SlotTable::With(
    std::shared_ptr<const Memslot> slot) const {
  auto table = std::make_unique<SlotTable>(*this);
  table->Insert(std::move(slot));
  ++table->generation_;
  return table;
}

std::unique_ptr<const SlotTable> SlotTable::Without(const Memslot& slot) const {
  auto table = std::make_unique<SlotTable>(*this);
  table->Erase(slot);
  ++table->generation_;
  return table;
}

std::unique_ptr<const SlotTable> SlotTable::Replacing(
    std::shared_ptr<const Memslot> slot) const {
  auto table = std::make_unique<SlotTable>(*this);
  table->Erase(*FindById(slot->spec.space, slot->spec.id));
  table->Insert(std::move(slot));
  ++table->generation_;
  return table;
}

const Memslot* SlotCache::FindSlow(const SlotTable& table, AddressSpace space,
                                   Gfn gfn) {
  if (generation_ != table.generation()) {
    generation_ = table.generation();
    place_ = {};
  }
  std::array<const Memslot*, 2>& places = place_[SetOf(gfn)];
  if (Covers(places[1], space, gfn)) return places[1];
  const Memslot* slot = table.Find(space, gfn);
  if (slot != nullptr) {
    places[1] = places[0];
    places[0] = slot;
  }
  return slot;
}

}  // namespace shadowmmu
