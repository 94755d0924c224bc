#include "src/mmu/page_role.h"

namespace shadowmmu {

std::ostream& operator<<(std::ostream& os, GuestRules rules) {
  constexpr struct {
    uint32_t flag;
    const char* name;
  } kNames[] = {
      {GuestRules::kNoExecute, ", nxe"},   {GuestRules::kLargePages, ", large"},
      {GuestRules::kPse36, ", pse36"},     {GuestRules::kFixUps, ", wp=0"},
      {GuestRules::kFixUpsSmep, ", smep"}, {GuestRules::kFixUpsSmap, ", smap"},
      {GuestRules::kFixUpsKeys, ", pke"}};
  switch (rules.layout()) {
    case EntryLayout::kLong:
      os << "long";
      break;
    case EntryLayout::kPae:
      os << "pae";
      break;
    case EntryLayout::k32Bit:
      os << "32-bit";
      break;
  }
  for (const auto& name : kNames) {
    if (rules.Has(name.flag)) os << name.name;
  }
  return os;
}

std::ostream& operator<<(std::ostream& os, PageRole role) {
  os << "level " << role.level() << ", " << role.space() << ", "
     << (role.direct() ? "direct" : "indirect") << ", " << role.rights() << ", "
     << role.rules();
  if (!role.direct() && role.rules().layout() == EntryLayout::k32Bit) {
    os << ", quadrant " << role.quadrant();
  }
  if (role.key() != 0) os << ", key " << role.key();
  if (role.clean()) os << ", clean";
  return os;
}

}  // namespace shadowmmu
