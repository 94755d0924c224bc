#include "src/mmu/audit_pages.h"

namespace shadowmmu {

void AuditPages::Check() {
  vm_.lock.AssertHeld();
  CheckActiveList();
  for (uint32_t i = 1; i < vm_.arena.end(); ++i) {
    const auto table = static_cast<TableIndex>(i);
    if (vm_.lists.back_references().Has(table)) {
      ++place_arrays_;
      if (vm_.arena.Page(table).state != PageState::kActive) {
        Violation(report_, 11, "table ", i,
                  " has an array of places, and is no page");
      }
    }
    if (vm_.arena.Page(table).state == PageState::kFree) {
      CheckClear(table);
    } else {
      CheckPage(table);
    }
  }
  CheckCounts();
}

// Invariant 6, and that list, hash and states agree.
void AuditPages::CheckActiveList() {
  uint64_t generation = 0;
  uint64_t listed = 0;
  TableIndex previous = TableIndex::kNil;
  for (TableIndex table = vm_.pages.oldest(); table != TableIndex::kNil;
       table = vm_.pages.Next(table)) {
    if (++listed > vm_.arena.capacity()) {
      Violation(report_, 6, "the active list does not end");
      return;
    }
    if (ToInt(table) >= vm_.arena.end()) {
      Violation(report_, 6, "the active list names table ", ToInt(table));
      return;
    }
    const ShadowPage& page = vm_.arena.Page(table);
    if (page.state != PageState::kActive || page.list_prev != previous) {
      Violation(report_, 6, "table ", ToInt(table),
                " is in the active list, and not active or not linked back");
    }
    previous = table;
    if (page.mmu_valid_gen < generation) {
      Violation(report_, 6, "table ", ToInt(table), " of generation ",
                page.mmu_valid_gen, " stands behind one of ", generation);
    }
    generation = page.mmu_valid_gen;
  }
  if (listed != vm_.pages.active() || previous != vm_.pages.newest()) {
    Violation(report_, 11, listed, " pages in the active list, ",
              vm_.pages.active(), " counted; the last is table ",
              ToInt(previous), ", not ", ToInt(vm_.pages.newest()));
  }
}

void AuditPages::CheckPage(TableIndex table) {
  ++report_.pages;
  const ShadowPage& page = vm_.arena.Page(table);
  CheckTranslations(table);
  if (page.mmu_valid_gen > vm_.generations.mmu_valid_gen) {
    Violation(report_, 12, "table ", ToInt(table), " is of generation ",
              page.mmu_valid_gen, ", which is yet to come");
  }
  if (page.state == PageState::kZapped) {
    ++zapped_;
    if (page.root_count == 0 || page.entries != 0 || !page.parents.empty()) {
      Violation(report_, 11, "zapped table ", ToInt(table),
                " is no empty root, and was not freed");
    }
    CheckClear(table);
    return;
  }
  ++active_;
  // 0 where write flooding is off.
  if (page.write_flooding_count != 0 &&
      page.write_flooding_count >= vm_.config.write_flooding) {
    Violation(report_, 11, "table ", ToInt(table), " was flooded by ",
              unsigned{page.write_flooding_count}, " stores, and is there");
  }
  const bool current = page.mmu_valid_gen == vm_.generations.mmu_valid_gen;
  const TableIndex found =
      vm_.pages.Find(page.gfn, page.role, page.mmu_valid_gen);
  if (found != table) {
    Violation(report_, 5, "the lookup of table ", ToInt(table), " (", page.gfn,
              ", ", page.role, current ? ", current" : ", obsolete",
              ") finds table ", ToInt(found));
  }
  CheckEntries(table);
}

// A table that is free, or zapped, has nothing in it that a CPU could use.
void AuditPages::CheckClear(TableIndex table) {
  for (unsigned i = 0; i < kEntriesPerTable; ++i) {
    if (vm_.arena.Load(SpteRef(table, i)) != vm_.format.NotPresent()) {
      Violation(report_, 11, SpteRef(table, i),
                " is in use, in a table that is not");
    }
  }
}

// An indirect page has an array of translations to itself, a direct one none.
void AuditPages::CheckTranslations(TableIndex table) {
  const ShadowPage& page = vm_.arena.Page(table);
  if (page.role.direct() != (page.translations == 0)) {
    Violation(report_, 11, "table ", ToInt(table), " (", page.role,
              ") has translations ", page.translations);
  }
  if (page.translations == 0) return;
  ++indirect_;
  if (!translations_.insert(page.translations).second) {
    Violation(report_, 11, "table ", ToInt(table),
              " shares its translations with another");
  }
}

void AuditPages::CheckEntries(TableIndex table) {
  const ShadowPage& page = vm_.arena.Page(table);
  const Level level = page.role.level();
  unsigned present = 0;
  for (unsigned i = 0; i < kEntriesPerTable; ++i) {
    const SpteRef ref(table, i);
    const Spte spte = vm_.arena.Load(ref);
    if (!spte.present()) {
      if (spte != vm_.format.NotPresent()) {
        Violation(report_, 11, ref, " is not present, and not clear");
      }
      continue;
    }
    ++present;
    if (vm_.format.ReservedBitsSet(spte, page.role) != 0) {
      Violation(report_, 1, ref, " has bits that the CPU reserves");
    }
    if (spte.leaf(level)) {
      CheckLeaf(ref, spte);
    } else {
      CheckLink(ref, spte);
    }
  }
  if (present != page.entries) {
    Violation(report_, 11, "table ", ToInt(table), " has ", present,
              " entries, ", page.entries, " counted");
  }
}

void AuditPages::CheckLeaf(SpteRef ref, Spte spte) {
  ++report_.sptes;
  const ShadowPage& page = vm_.arena.Page(ref.table());
  const Gfn gfn = vm_.arena.GfnOf(ref);
  const ListKey* list = lists_.Find(ref);
  if (list == nullptr) {
    Violation(report_, 1, ref, " maps ", gfn, " of ", page.role.space(), " at ",
              page.role.level(), " and sits on no rmap");
  } else if (list->kind != ListKey::Kind::kRmap) {
    Violation(report_, 1, ref, " is a leaf and sits on ", *list);
  }
  // A fix-up (permission.h) may write what its role may not.
  const bool fix_up = page.role.rules().Has(GuestRules::kFixUps) &&
                      !page.role.clean() && spte.may_write() &&
                      !spte.rights().user();
  const Rights granted =
      fix_up ? spte.rights().WithoutWrite() : spte.rights_at_most();
  if (!page.role.rights().Includes(granted)) {
    Violation(report_, 1, ref, " grants ", spte.rights(), ", its role ",
              page.role.rights());
  }
  if (spte.log_protected() &&
      (spte.writable() || page.role.level() != Level::k4K)) {
    Violation(report_, 13, ref, " is log-protected, and ",
              spte.writable() ? "writable" : "large");
  }
  if (page.role.direct() && spte.key() != page.role.key()) {
    Violation(report_, 1, ref, " has protection key ", spte.key(),
              ", its page ", page.role.key());
  }
  if (!IsAligned(gfn, page.role.level())) {
    Violation(report_, 1, ref, " maps ", gfn, ", not aligned to its level");
  }
}

// Invariant 4, from the parent's side, and that the child fits.
void AuditPages::CheckLink(SpteRef ref, Spte spte) {
  const ShadowPage& page = vm_.arena.Page(ref.table());
  const TableIndex child = vm_.arena.TableAt(vm_.format.TableOf(spte));
  if (child == TableIndex::kNil ||
      vm_.arena.Page(child).state != PageState::kActive) {
    Violation(report_, 4, ref, " points to no active table");
    return;
  }
  const ListKey* list = lists_.Find(ref);
  if (list == nullptr || list->kind != ListKey::Kind::kParents ||
      list->child != child) {
    Violation(report_, 4, ref, " points to table ", ToInt(child),
              " and is not on its parent list");
  }
  const ShadowPage& below = vm_.arena.Page(child);
  // An entry of a guest's directory of 4 bytes became two (page_role.h).
  const bool halves = !below.role.direct() &&
                      below.role.rules().layout() == EntryLayout::k32Bit;
  if (below.role.level() != Below(page.role.level()) ||
      below.role.space() != page.role.space() ||
      below.role.rules() != page.role.rules() ||
      below.role.quadrant() != (halves ? ref.index() % 2 : 0) ||
      !page.role.rights().Includes(below.role.rights()) ||
      below.mmu_valid_gen != page.mmu_valid_gen) {
    Violation(report_, 4, ref, " of a table (", page.role, ", generation ",
              page.mmu_valid_gen, ") points to one (", below.role,
              ", generation ", below.mmu_valid_gen, ")");
  }
}

void AuditPages::CheckCounts() {
  if (vm_.pages.arena_epoch() != vm_.generations.arena_epoch) {
    Violation(report_, 12, "the hash is of epoch ", vm_.pages.arena_epoch(),
              ", the arena of ", vm_.generations.arena_epoch);
  }
  const auto expect = [&](uint64_t there, uint64_t counted, const char* what) {
    if (there != counted) {
      Violation(report_, 11, there, " ", what, ", ", counted, " counted");
    }
  };
  expect(active_, vm_.pages.active(), "active pages");
  expect(zapped_, vm_.pinned_pages, "pinned pages");
  expect(active_ + zapped_, vm_.arena.tables_in_use(), "tables in use");
  if (active_ + zapped_ > vm_.arena.limit()) {
    Violation(report_, 11, active_ + zapped_,
              " tables in use, the page limit is ", vm_.arena.limit());
  }
  expect(indirect_, vm_.arena.translations().in_use(), "indirect pages");
  expect(place_arrays_ + InReserves(vm_).place_arrays,
         vm_.lists.back_references().pool().in_use(), "arrays of places");
}

}  // namespace shadowmmu
