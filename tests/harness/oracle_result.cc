// What the oracle answers, in other words.

#include <ostream>
#include <vector>

#include "tests/harness/oracle.h"

namespace shadowmmu::testing {

std::vector<Gfn> OracleResult::tables() const {
  std::vector<Gfn> tables;
  for (const Gpa entry : entries) tables.push_back(ToGfn(entry));
  return tables;
}

std::ostream& operator<<(std::ostream& os, const OracleResult& result) {
  switch (result.kind) {
    case OracleResult::Kind::kTranslated:
      os << result.gpa << " (" << result.level << ", "
         << (result.writable ? 'w' : '-') << (result.user ? 'u' : '-')
         << (result.executable ? 'x' : '-');
      if (result.key != 0) os << ", key " << result.key;
      switch (result.target) {
        case OracleTarget::kMemory:
          return os << ")";
        case OracleTarget::kNoSlot:
          return os << ", in no slot)";
        case OracleTarget::kReadOnlySlot:
          return os << ", a write into a read-only slot)";
      }
      return os;
    case OracleResult::Kind::kGuestFault:
      return os << result.fault;
    case OracleResult::Kind::kTableOutsideSlots:
      return os << "an entry outside the slots, at " << result.gpa;
    case OracleResult::Kind::kTableUnreadable:
      return os << "an entry that the host refuses, at " << result.gpa;
  }
  return os;
}

}  // namespace shadowmmu::testing
