#include "tests/harness/guest_memory.h"

#include <algorithm>

#include "src/base/check.h"

namespace shadowmmu::testing {
namespace {

// Bytes from `gpa` to the end of its page, `bytes` at most.
size_t WithinPage(Gpa gpa, size_t bytes) {
  return std::min<size_t>(bytes, kPageSize - PageOffset(gpa));
}

}  // namespace

void GuestMemory::AddSlot(const SlotSpec& slot) {
  SMMU_CHECK(MutableSlot(slot.space, slot.id) == nullptr)
      << "slot id " << ToInt(slot.id) << " is taken";
  slots_.push_back(slot);
}

bool GuestMemory::RemoveSlot(AddressSpace space, SlotId id) {
  return std::erase_if(slots_, [&](const SlotSpec& slot) {
           return slot.space == space && slot.id == id;
         }) != 0;
}

const SlotSpec* GuestMemory::FindSlot(AddressSpace space, SlotId id) const {
  for (const SlotSpec& slot : slots_) {
    if (slot.space == space && slot.id == id) return &slot;
  }
  return nullptr;
}

SlotSpec* GuestMemory::MutableSlot(AddressSpace space, SlotId id) {
  return const_cast<SlotSpec*>(FindSlot(space, id));
}

std::optional<SlotSpec> GuestMemory::SlotAt(AddressSpace space, Gfn gfn) const {
  for (const SlotSpec& slot : slots_) {
    if (slot.space == space && slot.gfns().Contains(gfn)) return slot;
  }
  return std::nullopt;
}

std::optional<Hva> GuestMemory::HvaOf(AddressSpace space, Gpa gpa) const {
  const std::optional<SlotSpec> slot = SlotAt(space, ToGfn(gpa));
  if (!slot.has_value()) return std::nullopt;
  return slot->hva + (gpa - ToGpa(slot->base));
}

bool GuestMemory::Read(AddressSpace space, Gpa gpa,
                       std::span<std::byte> out) const {
  while (!out.empty()) {
    const size_t bytes = WithinPage(gpa, out.size());
    const std::optional<Hva> hva = HvaOf(space, gpa);
    if (!hva.has_value() || !host_->TryRead(*hva, out.first(bytes))) {
      return false;
    }
    out = out.subspan(bytes);
    gpa += bytes;
  }
  return true;
}

bool GuestMemory::Write(AddressSpace space, Gpa gpa,
                        std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const size_t count = WithinPage(gpa, bytes.size());
    const std::optional<Hva> hva = HvaOf(space, gpa);
    if (!hva.has_value() || !host_->TryWrite(*hva, bytes.first(count))) {
      return false;
    }
    bytes = bytes.subspan(count);
    gpa += count;
  }
  return true;
}

std::optional<uint64_t> GuestMemory::Read64(AddressSpace space, Gpa gpa) const {
  uint64_t value = 0;
  if (!Read(space, gpa, std::as_writable_bytes(std::span(&value, 1)))) {
    return std::nullopt;
  }
  return value;
}

bool GuestMemory::Write64(AddressSpace space, Gpa gpa, uint64_t value) {
  return Write(space, gpa, std::as_bytes(std::span(&value, 1)));
}

}  // namespace shadowmmu::testing
