#include "tests/harness/slot_rules.h"

#include <algorithm>

#include "shadowmmu/memslot.h"
#include "tests/harness/op_values.h"

namespace shadowmmu::testing {
namespace {

using Codes = std::vector<absl::StatusCode>;

bool UnknownFlags(SlotFlags flags) { return static_cast<uint32_t>(flags) > 3; }

// Is the spec wrong by itself?
bool Malformed(const SlotSpec& spec, unsigned bits) {
  const uint64_t frames = uint64_t{1} << (bits - kPageShift);
  const uint64_t host_pages =
      (uint64_t{1} << (64 - kPageShift)) - (spec.hva.value() >> kPageShift);
  return ToInt(spec.space) >= kAddressSpaces || ToInt(spec.id) >= kMaxSlotId ||
         spec.pages == 0 || spec.base.value() >= frames ||
         spec.pages > frames - spec.base.value() || spec.pages > host_pages ||
         UnknownFlags(spec.flags);
}

bool Overlap(const SlotSpec& a, const SlotSpec& b) {
  return a.space == b.space &&
         (a.gfns().Contains(b.base) || b.gfns().Contains(a.base));
}

void AddPlaceRefusals(const SlotSpec& spec, const GuestMemory& memory,
                      unsigned bits, const SlotSpec* except, Codes* codes) {
  if (Malformed(spec, bits)) {
    codes->push_back(absl::StatusCode::kInvalidArgument);
  }
  for (const SlotSpec& other : memory.slots()) {
    if (&other == except) continue;
    const bool same_id = other.space == spec.space && other.id == spec.id;
    if (same_id || (spec.pages != 0 && Overlap(spec, other))) {
      codes->push_back(absl::StatusCode::kAlreadyExists);
      return;
    }
  }
}

}  // namespace

std::vector<absl::StatusCode> SlotRefusals(const Op& op,
                                           const GuestMemory& memory,
                                           unsigned guest_physical_bits) {
  Codes codes;
  if (op.kind() == OpKind::kSlotCreate) {
    AddPlaceRefusals(SlotOf(op), memory, guest_physical_bits, nullptr, &codes);
    return codes;
  }
  const auto slot = std::find_if(
      memory.slots().begin(), memory.slots().end(), [&](const SlotSpec& s) {
        return s.space == SlotSpaceOf(op) && s.id == SlotIdOf(op);
      });
  if (slot == memory.slots().end()) {
    codes.push_back(absl::StatusCode::kNotFound);
    // The same may be said of the address space or the id itself.
    codes.push_back(absl::StatusCode::kInvalidArgument);
    return codes;
  }
  if (op.kind() == OpKind::kDirtyGet &&
      !Has(slot->flags, SlotFlags::kLogDirty)) {
    codes.push_back(absl::StatusCode::kFailedPrecondition);
  }
  if (op.kind() == OpKind::kSlotFlags && UnknownFlags(FlagsOf(op))) {
    codes.push_back(absl::StatusCode::kInvalidArgument);
  }
  if (op.kind() == OpKind::kSlotMove) {
    SlotSpec moved = *slot;
    moved.base = Gfn(op.Get(Field::kGfn));
    AddPlaceRefusals(moved, memory, guest_physical_bits, &*slot, &codes);
  }
  return codes;
}

}  // namespace shadowmmu::testing
