#include "src/mmu/slot_update.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "src/base/check.h"
#include "src/memslot/slot_check.h"
#include "src/mmu/collapse.h"
#include "src/mmu/dirty_log.h"
#include "src/mmu/flush.h"
#include "src/mmu/slot_walk.h"
#include "src/mmu/slot_zap.h"
#include "src/mmu/spte_sweep.h"

namespace shadowmmu {
namespace {

using Table = std::unique_ptr<const SlotTable>;

absl::Status NotFound(AddressSpace space, SlotId id) {
  return absl::NotFoundError(
      absl::StrCat("id: as ", ToInt(space), " has no slot ", ToInt(id)));
}

absl::Status CheckSpace(AddressSpace space) {
  if (ToInt(space) < kAddressSpaces) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("space: only 0 to ", kAddressSpaces - 1, " exist"));
}

absl::Status CheckPolicy(SlotZapPolicy policy) {
  if (policy <= SlotZapPolicy::kRelease) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "policy: ", static_cast<unsigned>(policy), " is no SlotZapPolicy"));
}

// The bitmap of a slot with these flags that had `before`: none, the same, or
// a new one.
absl::StatusOr<std::shared_ptr<DirtyBitmap>> BitmapFor(
    Vm& vm, const SlotSpec& spec, std::shared_ptr<DirtyBitmap> before) {
  if (!Has(spec.flags, SlotFlags::kLogDirty)) {
    return std::shared_ptr<DirtyBitmap>();
  }
  if (before != nullptr) return before;
  vm.has_logged.store(true, std::memory_order_relaxed);
  return DirtyBitmap::Create(vm.host, spec.pages);
}

// A slot that nothing maps yet.
absl::StatusOr<std::shared_ptr<const Memslot>> MakeSlot(
    Vm& vm, const SlotSpec& spec, std::shared_ptr<DirtyBitmap> before)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.slots.update_lock()) {
  absl::StatusOr<std::shared_ptr<SlotRmaps>> rmaps =
      SlotRmaps::Create(vm.host, spec.gfns(), vm.slots.NextSerial());
  if (!rmaps.ok()) return rmaps.status();
  auto dirty = BitmapFor(vm, spec, std::move(before));
  if (!dirty.ok()) return dirty.status();
  if (*dirty != nullptr) {
    WriterMutexLock held(&vm.lock);
    (*dirty)->Arm();
  }
  return std::make_shared<const Memslot>(
      Memslot{spec, SlotState::kLive, *std::move(rmaps), *std::move(dirty)});
}

std::shared_ptr<const Memslot> InvalidCopy(const Memslot& slot) {
  return std::make_shared<const Memslot>(
      Memslot{slot.spec, SlotState::kInvalid, slot.rmaps, slot.dirty});
}

// Publishes the slot as INVALID, and takes away everything made from it.
void Retire(Vm& vm, const Memslot& slot, Table invalid, SlotZapPolicy policy)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.slots.update_lock()) {
  vm.slots.Publish(std::move(invalid));
  {
    WriterMutexLock held(&vm.lock);
    slot.rmaps->SetRemoveOnly();
  }
  ZapSlot(vm, slot, policy);
  WriterMutexLock held(&vm.lock);
  const uint64_t epoch = vm.generations.arena_epoch;
  SMMU_CHECK_EQ(slot.rmaps->leaf_sptes(epoch), 0u)
      << "sptes of " << slot.spec << " outlived its invalidation";
  SMMU_CHECK_EQ(slot.rmaps->shadowed_tables(epoch), 0u)
      << "shadow pages of guest tables in " << slot.spec << " outlived it";
  slot.rmaps->MakeFresh(epoch);
}

void WriteProtectSlot(Vm& vm, const Memslot& slot)
    ABSL_LOCKS_EXCLUDED(vm.lock) {
  ForEachStep(vm, slot.spec.pages,
              [&](uint64_t first, uint64_t pages, FlushObligation& flush) {
                vm.lock.AssertHeld();
                WriteProtectRange(vm, *slot.rmaps,
                                  {slot.spec.base + first, pages},
                                  Protect::kWholly, flush);
              });
}

}  // namespace

absl::Status CreateSlot(Vm& vm, const SlotSpec& spec) {
  const unsigned bits = vm.config.guest_physical_bits;
  if (absl::Status good = CheckSlotSpec(spec, bits); !good.ok()) return good;
  MutexLock update(&vm.slots.update_lock());
  const SlotTable& table = vm.slots.Current();
  if (absl::Status fits = CheckSlotFits(spec, table, nullptr); !fits.ok()) {
    return fits;
  }
  auto slot = MakeSlot(vm, spec, nullptr);
  if (!slot.ok()) return slot.status();
  vm.slots.Publish(table.With(*std::move(slot)));
  return absl::OkStatus();
}

absl::Status DeleteSlot(Vm& vm, AddressSpace space, SlotId id,
                        SlotZapPolicy policy) {
  if (absl::Status good = CheckSpace(space); !good.ok()) return good;
  if (absl::Status good = CheckPolicy(policy); !good.ok()) return good;
  MutexLock update(&vm.slots.update_lock());
  const SlotTable& table = vm.slots.Current();
  const std::shared_ptr<const Memslot> slot = table.FindById(space, id);
  if (slot == nullptr) return NotFound(space, id);
  Table invalid = table.Replacing(InvalidCopy(*slot));
  Table without = invalid->Without(*slot);
  Retire(vm, *slot, std::move(invalid), policy);
  vm.slots.Publish(std::move(without));
  return absl::OkStatus();
}

absl::Status MoveSlot(Vm& vm, AddressSpace space, SlotId id, Gfn new_base,
                      SlotZapPolicy policy) {
  if (absl::Status good = CheckSpace(space); !good.ok()) return good;
  if (absl::Status good = CheckPolicy(policy); !good.ok()) return good;
  MutexLock update(&vm.slots.update_lock());
  const SlotTable& table = vm.slots.Current();
  const std::shared_ptr<const Memslot> slot = table.FindById(space, id);
  if (slot == nullptr) return NotFound(space, id);
  SlotSpec spec = slot->spec;
  spec.base = new_base;
  const unsigned bits = vm.config.guest_physical_bits;
  if (absl::Status good = CheckSlotSpec(spec, bits); !good.ok()) return good;
  if (absl::Status fits = CheckSlotFits(spec, table, &id); !fits.ok()) {
    return fits;
  }
  auto moved = MakeSlot(vm, spec, slot->dirty);
  if (!moved.ok()) return moved.status();
  Table invalid = table.Replacing(InvalidCopy(*slot));
  Table after = invalid->Replacing(*std::move(moved));
  Retire(vm, *slot, std::move(invalid), policy);
  vm.slots.Publish(std::move(after));
  return absl::OkStatus();
}

absl::Status SetSlotFlags(Vm& vm, AddressSpace space, SlotId id,
                          SlotFlags flags) {
  if (absl::Status good = CheckSpace(space); !good.ok()) return good;
  if (absl::Status good = CheckSlotFlags(flags); !good.ok()) return good;
  MutexLock update(&vm.slots.update_lock());
  const SlotTable& table = vm.slots.Current();
  const std::shared_ptr<const Memslot> slot = table.FindById(space, id);
  if (slot == nullptr) return NotFound(space, id);
  SlotSpec spec = slot->spec;
  spec.flags = flags;
  auto dirty = BitmapFor(vm, spec, slot->dirty);
  if (!dirty.ok()) return dirty.status();
  const auto changed = std::make_shared<const Memslot>(
      Memslot{spec, slot->state, slot->rmaps, *std::move(dirty)});
  vm.slots.Publish(table.Replacing(changed));
  // Faults that saw the old flags are over; what they mapped goes now.
  if (changed->read_only()) WriteProtectSlot(vm, *changed);
  const bool logged = slot->logs_dirty();
  if (changed->logs_dirty() && !logged) StartDirtyLog(vm, *changed);
  if (!changed->logs_dirty() && logged) CollapseSlot(vm, *changed);
  return absl::OkStatus();
}

}  // namespace shadowmmu
