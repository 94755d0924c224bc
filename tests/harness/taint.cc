#include "tests/harness/taint.h"

#include <algorithm>

namespace shadowmmu::testing {

void Taint::NoteWalk(AddressSpace space, std::span<const Gfn> tables) {
  for (const Gfn gfn : tables) tables_.try_emplace(Table{space, gfn});
}

void Taint::NoteUntrapped(EntryRange entries,
                          absl::FunctionRef<bool(AddressSpace, Gfn)> changed) {
  ++now_;
  for (auto& [table, tainted] : tables_) {
    if (!changed(table.first, table.second)) continue;
    for (unsigned i = entries.first; i <= entries.last; ++i) tainted[i] = now_;
  }
}

void Taint::NoteGuestStore(Gfn gfn, EntryRange entries) {
  ++now_;
  for (const auto& [table, tainted] : tables_) {
    if (table.second != gfn) continue;
    Entries& stored = stored_[table];
    for (unsigned i = entries.first; i <= entries.last; ++i) stored[i] = now_;
  }
}

Taint::Time Taint::GuestStored(AddressSpace space,
                               const WalkedEntry& entry) const {
  const auto table = stored_.find(Table{space, entry.table});
  if (table == stored_.end()) return 0;
  const auto stored = table->second.find(entry.index);
  return stored == table->second.end() ? 0 : stored->second;
}

bool Taint::Covers(AddressSpace space, std::span<const WalkedEntry> entries,
                   Time entered) const {
  return std::any_of(
      entries.begin(), entries.end(), [&](const WalkedEntry& entry) {
        const auto table = tables_.find(Table{space, entry.table});
        if (table == tables_.end()) return false;
        const auto tainted = table->second.find(entry.index);
        return tainted != table->second.end() && tainted->second > entered;
      });
}

bool Taint::AnyTable(absl::FunctionRef<bool(AddressSpace, Gfn)> is) const {
  return std::any_of(tables_.begin(), tables_.end(), [&](const auto& entry) {
    return is(entry.first.first, entry.first.second);
  });
}

}  // namespace shadowmmu::testing
