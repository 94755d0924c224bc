#include "src/memslot/slot_check.h"

#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"

namespace shadowmmu {
namespace {

std::string Hex(uint64_t value) { return absl::StrCat("0x", absl::Hex(value)); }

absl::Status Invalid(const SlotSpec& spec, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat(
      "slot ", ToInt(spec.id), " of as ", ToInt(spec.space), ": ", why));
}

}  // namespace

absl::Status CheckSlotFlags(SlotFlags flags) {
  const auto known =
      static_cast<uint32_t>(SlotFlags::kReadOnly | SlotFlags::kLogDirty);
  const uint32_t unknown = static_cast<uint32_t>(flags) & ~known;
  if (unknown == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("flags: unknown bits ", Hex(unknown)));
}

absl::Status CheckSlotSpec(const SlotSpec& spec, unsigned physical_bits) {
  if (ToInt(spec.space) >= kAddressSpaces) {
    return Invalid(
        spec, absl::StrCat("space: only 0 to ", kAddressSpaces - 1, " exist"));
  }
  if (ToInt(spec.id) >= kMaxSlotId) {
    return Invalid(spec, absl::StrCat("id: must be below ", kMaxSlotId));
  }
  if (spec.pages == 0) return Invalid(spec, "pages: an empty slot");
  const uint64_t frames = uint64_t{1} << (physical_bits - kPageShift);
  if (spec.base.value() >= frames || spec.pages > frames - spec.base.value()) {
    return Invalid(
        spec, absl::StrCat("base, pages: gfns ", Hex(spec.base.value()), " + ",
                           Hex(spec.pages), " reach beyond the guest's ",
                           physical_bits, " physical address bits"));
  }
  if (PageOffset(spec.hva) != 0) {
    return Invalid(spec, absl::StrCat("hva: ", Hex(spec.hva.value()),
                                      " is not a multiple of 4 KiB"));
  }
  const uint64_t last_offset = (spec.pages << kPageShift) - 1;
  if (spec.hva.value() + last_offset < spec.hva.value()) {
    return Invalid(spec,
                   absl::StrCat("hva, pages: ", Hex(spec.hva.value()), " + ",
                                Hex(spec.pages), " pages wraps around"));
  }
  return CheckSlotFlags(spec.flags);
}

absl::Status CheckSlotFits(const SlotSpec& spec, const SlotTable& table,
                           const SlotId* except) {
  const bool same_id = except != nullptr && *except == spec.id;
  if (!same_id && table.FindById(spec.space, spec.id) != nullptr) {
    return absl::AlreadyExistsError(absl::StrCat(
        "id: as ", ToInt(spec.space), " has a slot ", ToInt(spec.id)));
  }
  const Memslot* other = table.FindOverlap(spec.space, spec.gfns(), except);
  if (other == nullptr) return absl::OkStatus();
  std::ostringstream text;
  text << "base, pages: " << spec << " overlaps " << other->spec;
  return absl::AlreadyExistsError(text.str());
}

}  // namespace shadowmmu
