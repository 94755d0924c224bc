#include "tests/harness/taint.h"

namespace shadowmmu::testing {

void Taint::NoteWalk(AddressSpace space, std::span<const Gfn> tables) {
  for (const Gfn gfn : tables) tables_.try_emplace(Table{space, gfn}, 0);
}

void Taint::NoteUntrapped(absl::FunctionRef<bool(AddressSpace, Gfn)> changed) {
  ++now_;
  for (auto& [table, tainted] : tables_) {
    if (changed(table.first, table.second)) tainted = now_;
  }
}

bool Taint::Covers(AddressSpace space, std::span<const Gfn> tables,
                   Time entered) const {
  for (const Gfn gfn : tables) {
    const auto it = tables_.find(Table{space, gfn});
    if (it != tables_.end() && it->second > entered) return true;
  }
  return false;
}

bool Taint::AnyTable(absl::FunctionRef<bool(AddressSpace, Gfn)> is) const {
  for (const auto& entry : tables_) {
    if (is(entry.first.first, entry.first.second)) return true;
  }
  return false;
}

}  // namespace shadowmmu::testing
