#include "src/mmu/audit_pages.h"

#include <algorithm>
#include <vector>

#include "src/mmu/vcpu_state.h"

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
  CheckRoots();
  CheckTracking();
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
  if (!page.role.direct()) {
    TableCounts& counts = tables_[ToInt(page.role.space())][page.gfn.value()];
    ++counts.shadowing;
    if (!page.unsync) ++counts.tracking;
    ++pages_shadowing_[ToInt(page.role.space())];
    if (vm_.slot_table().Find(page.role.space(), page.gfn) == nullptr) {
      Violation(report_, 9, "table ", ToInt(table), " shadows the table in ",
                page.gfn, " of ", page.role.space(), ", which has no slot");
    }
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
                      !page.role.clean() && spte.writable() &&
                      !spte.rights().user();
  const Rights granted = fix_up ? spte.rights().WithoutWrite() : spte.rights();
  if (!page.role.rights().Includes(granted)) {
    Violation(report_, 1, ref, " grants ", spte.rights(), ", its role ",
              page.role.rights());
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

void AuditPages::CheckRoots() {
  for (const VcpuState* vcpu : vm_.vcpus) {
    if (vcpu == nullptr) continue;
    SpinLockHolder held(&vcpu->roots_lock);
    CountRoot(vcpu->root);
    for (const PreviousRoot& previous : vcpu->previous) {
      CountRoot(previous.root);
    }
    CheckRootKeys(*vcpu);
    if (vcpu->root.epoch != vm_.generations.arena_epoch) continue;
    CheckHardwareRoot(*vcpu);
  }
  for (uint32_t i = 1; i < vm_.arena.end(); ++i) {
    const ShadowPage& page = vm_.arena.Page(static_cast<TableIndex>(i));
    const auto held = roots_.find(i);
    const uint32_t expected = held == roots_.end() ? 0 : held->second;
    const uint32_t counted =
        page.state == PageState::kFree ? 0 : page.root_count;
    if (counted != expected) {
      Violation(report_, 11, "table ", i, " is the root of ", expected,
                " vCPUs, ", counted, " counted");
    }
  }
}

// A switch must find the one root of its key.
void AuditPages::CheckRootKeys(const VcpuState& vcpu) {
  std::vector<RootKey> keys;
  const auto check = [&](const RootKey& key, const RootHandle& root) {
    if (root.empty()) return;
    const bool again = std::find(keys.begin(), keys.end(), key) != keys.end();
    if (again || (key.pcid != Pcid() && !key.long_mode)) {
      Violation(report_, 4, "vCPU ", ToInt(vcpu.id),
                " keeps two roots of one key, or one that no CR3 can name");
    }
    keys.push_back(key);
  };
  check(vcpu.root_key, vcpu.root);
  for (const PreviousRoot& previous : vcpu.previous) {
    check(previous.key, previous.root);
  }
}

void AuditPages::CountRoot(const RootHandle& root) {
  if (root.epoch != vm_.generations.arena_epoch) return;
  root.ForEachPage([&](TableIndex table) { ++roots_[ToInt(table)]; });
}

// What the vCPU's CPU walks from is what its root handle says.
void AuditPages::CheckHardwareRoot(const VcpuState& vcpu) {
  const RootHandle& root = vcpu.root;
  if (root.empty()) return;
  bool good = true;
  if (root.pages == 1) {
    good = vcpu.hardware.root == vm_.arena.HpaOf(root.page[0]);
  } else {
    good = vcpu.hardware.root == vcpu.pae_root;
    for (unsigned i = 0; i < root.pages; ++i) {
      const Spte entry(vcpu.pae_entries[i].load());
      const bool there = root.page[i] != TableIndex::kNil;
      const Spte wanted =
          there ? vm_.format.PaeRoot(vm_.arena.HpaOf(root.page[i])) : Spte();
      good = good && entry == wanted &&
             vm_.format.ReservedBitsSetInRoot(entry) == 0;
      if (there) CheckQuadrant(vcpu, i);
    }
  }
  if (!good) {
    Violation(report_, 4, "vCPU ", ToInt(vcpu.id),
              " walks from another root than it holds");
  }
}

// Page directory `i` of a PAE root maps the i-th GiB.
void AuditPages::CheckQuadrant(const VcpuState& vcpu, unsigned i) {
  const ShadowPage& page = vm_.arena.Page(vcpu.root.page[i]);
  const bool parts = page.role.rules().layout() == EntryLayout::k32Bit;
  const bool wrong = page.role.direct()
                         ? page.gfn != Gfn(i * PagesPerEntry(Level::k1G))
                         : page.role.quadrant() != (parts ? i : 0);
  if (wrong || page.role.level() != Level::k2M || !page.role.pae()) {
    Violation(report_, 4, "vCPU ", ToInt(vcpu.id), " has for GiB ", i,
              " a page (", page.role, ") of ", page.gfn);
  }
}

void AuditPages::CheckTracking() {
  vm_.slot_table().ForEach([&](const Memslot& slot) {
    vm_.lock.AssertHeld();
    CheckSlotTracking(slot);
  });
  for (unsigned space = 0; space < kAddressSpaces; ++space) {
    if (pages_shadowing_[space] != vm_.shadowed_tables[space]) {
      Violation(report_, 11, "as ", space, " has ", pages_shadowing_[space],
                " shadowed guest tables, ", vm_.shadowed_tables[space],
                " counted");
    }
    for (const auto& [gfn, counts] : tables_[space]) {
      if (counts.tracking != 0) CheckNotWritable(Gfn(gfn));
    }
  }
}

// The counts of one slot against the pages that were seen.
void AuditPages::CheckSlotTracking(const Memslot& slot) {
  SlotRmaps& rmaps = *slot.rmaps;
  const auto& expected = tables_[ToInt(slot.spec.space)];
  absl::flat_hash_map<uint64_t, uint64_t> by_gigabyte;
  uint64_t total = 0;
  const uint64_t epoch = vm_.generations.arena_epoch;
  rmaps.ForEachChunk(epoch, [&](RmapChunk& chunk) {
    const uint32_t* counts = chunk.counts();
    uint64_t sum = 0;
    for (uint32_t i = 0; i < chunk.gfns; ++i) {
      const Gfn gfn = chunk.first_gfn + i;
      const auto found = expected.find(gfn.value());
      const TableCounts there =
          found == expected.end() ? TableCounts() : found->second;
      const uint32_t counted = counts == nullptr ? 0 : counts[i];
      if (there.tracking != counted) {
        Violation(report_, 11, gfn, " of ", slot.spec.space, " is tracked by ",
                  there.tracking, " pages, ", counted, " counted");
      }
      sum += there.shadowing;
    }
    if (sum != chunk.shadowed_tables) {
      Violation(report_, 11, "the chunk of ", chunk.first_gfn, " holds ", sum,
                " shadowed tables, ", chunk.shadowed_tables, " counted");
    }
    by_gigabyte[AlignDown(chunk.first_gfn, Level::k1G).value()] += sum;
    total += sum;
  });
  rmaps.ForEachGigabyte(epoch, [&](Gfn gfn, GigabyteRecord& record) {
    if (by_gigabyte[gfn.value()] != record.shadowed_tables) {
      Violation(report_, 11, "the GiB of ", gfn, " holds ",
                by_gigabyte[gfn.value()], " shadowed tables, ",
                record.shadowed_tables, " counted");
    }
  });
  if (total != rmaps.shadowed_tables()) {
    Violation(report_, 11, slot.spec, " holds ", total, " shadowed tables, ",
              rmaps.shadowed_tables(), " counted");
  }
}

// Invariant 7.
void AuditPages::CheckNotWritable(Gfn gfn) {
  const uint64_t epoch = vm_.generations.arena_epoch;
  for (unsigned space = 0; space < kAddressSpaces; ++space) {
    const Memslot* slot =
        vm_.slot_table().Find(static_cast<AddressSpace>(space), gfn);
    if (slot == nullptr) continue;
    slot->rmaps->ForEachHead(
        {gfn, 1}, epoch, [&](RmapHead& head, Gfn, Level level) {
          vm_.lock.AssertHeld();
          vm_.lists.ForEach(head, [&](SpteRef ref) {
            vm_.lock.AssertHeld();
            if (!vm_.arena.Load(ref).writable()) return;
            Violation(report_, 7, ref,
                      " can write the shadowed guest table in ", gfn, " (",
                      slot->spec.space, ", at ", level, ")");
          });
        });
  }
}

void AuditPages::CheckCounts() {
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
  expect(place_arrays_, vm_.lists.back_references().pool().in_use(),
         "arrays of places");
}

}  // namespace shadowmmu
