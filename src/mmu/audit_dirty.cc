#include "src/mmu/audit_dirty.h"

#include "src/mmu/audit_lists.h"

namespace shadowmmu {

void AuditDirty::Check() {
  vm_.lock.AssertHeld();
  if (!AnySlotLogs()) return;
  for (uint32_t i = 1; i < vm_.arena.end(); ++i) {
    const auto table = static_cast<TableIndex>(i);
    if (vm_.arena.Page(table).state == PageState::kActive) CheckPage(table);
  }
}

bool AuditDirty::AnySlotLogs() {
  bool any = false;
  vm_.slot_table().ForEach(
      [&](const Memslot& slot) { any = any || slot.logs_dirty(); });
  return any;
}

void AuditDirty::CheckPage(TableIndex table) {
  const Level level = vm_.arena.Page(table).role.level();
  for (unsigned i = 0; i < kEntriesPerTable; ++i) {
    const Spte spte = vm_.arena.Load(SpteRef(table, i));
    if (spte.present() && spte.leaf(level)) CheckLeaf(SpteRef(table, i), spte);
  }
}

void AuditDirty::CheckLeaf(SpteRef ref, Spte spte) {
  const PageRole role = vm_.arena.Page(ref.table()).role;
  const Gfn gfn = vm_.arena.GfnOf(ref);
  const Memslot* slot = vm_.slot_table().Find(role.space(), gfn);
  if (slot == nullptr || !slot->logs_dirty() || !slot->dirty->armed()) return;
  if (role.level() != Level::k4K) {
    Violation(report_, 13, ref, " maps ", gfn, " of ", slot->spec, " at ",
              role.level());
  } else if (spte.writable() && !slot->MayBeWritable(gfn)) {
    Violation(report_, 13, ref, " can write ", gfn, " of ", slot->spec,
              ", which is not marked dirty");
  }
}

}  // namespace shadowmmu
