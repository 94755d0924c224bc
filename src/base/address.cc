#include "shadowmmu/address.h"

#include <ostream>

namespace shadowmmu {
namespace {

std::ostream& PrintHex(std::ostream& os, const char* name, uint64_t value) {
  const std::ios_base::fmtflags flags = os.flags();
  os << name << " 0x" << std::hex << value;
  os.flags(flags);
  return os;
}

}  // namespace

std::ostream& operator<<(std::ostream& os, Gva gva) {
  return PrintHex(os, "gva", gva.value());
}
std::ostream& operator<<(std::ostream& os, Gpa gpa) {
  return PrintHex(os, "gpa", gpa.value());
}
std::ostream& operator<<(std::ostream& os, Gfn gfn) {
  return PrintHex(os, "gfn", gfn.value());
}
std::ostream& operator<<(std::ostream& os, Hva hva) {
  return PrintHex(os, "hva", hva.value());
}
std::ostream& operator<<(std::ostream& os, Hpa hpa) {
  return PrintHex(os, "hpa", hpa.value());
}
std::ostream& operator<<(std::ostream& os, Pfn pfn) {
  return PrintHex(os, "pfn", pfn.value());
}

std::ostream& operator<<(std::ostream& os, Level level) {
  switch (level) {
    case Level::k4K:
      return os << "4K";
    case Level::k2M:
      return os << "2M";
    case Level::k1G:
      return os << "1G";
    case Level::k512G:
      return os << "512G";
    case Level::k256T:
      return os << "256T";
  }
  return os << "level " << ToInt(level);
}

std::ostream& operator<<(std::ostream& os, AddressSpace space) {
  return os << "as " << ToInt(space);
}

}  // namespace shadowmmu
