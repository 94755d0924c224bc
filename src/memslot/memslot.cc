#include "src/memslot/memslot.h"

#include <ostream>

namespace shadowmmu {

std::ostream& operator<<(std::ostream& os, SlotId id) {
  return os << "slot " << ToInt(id);
}

std::ostream& operator<<(std::ostream& os, const SlotSpec& slot) {
  os << slot.id << " of " << slot.space << ": " << slot.pages << " pages from "
     << slot.base << " at " << slot.hva;
  if (Has(slot.flags, SlotFlags::kReadOnly)) os << ", read-only";
  if (Has(slot.flags, SlotFlags::kLogDirty)) os << ", log-dirty";
  return os;
}

}  // namespace shadowmmu
