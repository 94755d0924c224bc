#include "src/mmu/audit_unsync.h"

#include "src/mmu/audit_lists.h"
#include "src/mmu/unsync_marks.h"

namespace shadowmmu {

void AuditUnsync::Check() {
  vm_.lock.AssertHeld();
  for (uint32_t i = 1; i < vm_.arena.end(); ++i) {
    const auto table = static_cast<TableIndex>(i);
    if (vm_.arena.Page(table).state == PageState::kActive) CheckUnsync(table);
    CheckMarks(table);
  }
  if (unsync_ != vm_.unsync_pages) {
    Violation(report_, 11, unsync_, " unsync pages, ", vm_.unsync_pages,
              " counted");
  }
}

void AuditUnsync::CheckUnsync(TableIndex table) {
  const ShadowPage& page = vm_.arena.Page(table);
  if (!page.unsync) return;
  ++unsync_;
  if (page.role.direct() || page.role.level() != Level::k4K) {
    Violation(report_, 8, "table ", ToInt(table), " (", page.role,
              ") is unsync, and no page table");
  }
  vm_.pages.ForEachShadowing(page.gfn, [&](TableIndex other) {
    vm_.lock.AssertHeld();
    if (vm_.arena.Page(other).role.level() == Level::k4K) return;
    Violation(report_, 8, "table ", ToInt(table), " is unsync, and table ",
              ToInt(other), " shadows its guest table in ", page.gfn,
              " at an upper level");
  });
}

bool AuditUnsync::LeadsToUnsync(SpteRef ref) {
  const Spte spte = vm_.arena.Load(ref);
  if (!spte.present() || spte.leaf(vm_.arena.Page(ref.table()).role.level())) {
    return false;
  }
  const TableIndex child = vm_.arena.TableAt(vm_.format.TableOf(spte));
  return child != TableIndex::kNil && OutOfStep(vm_, child);
}

// The marks of a page's children are looked at when their turn comes, so each
// level is right by itself.
void AuditUnsync::CheckMarks(TableIndex table) {
  const ShadowPage& page = vm_.arena.Page(table);
  const UnsyncChildren& marks = vm_.arena.UnsyncChildrenOf(table);
  // Most pages link nothing, and have nothing marked.
  const bool links = page.state == PageState::kActive &&
                     page.role.level() != Level::k4K && page.entries != 0;
  unsigned marked = 0;
  for (unsigned i = 0; i < kEntriesPerTable; ++i) {
    if (!links && marks.word[i / 64] == 0) {
      i |= 63;
      continue;
    }
    const bool mark = (marks.word[i / 64] >> (i % 64) & 1) != 0;
    if (mark) ++marked;
    if (mark != (links && LeadsToUnsync(SpteRef(table, i)))) {
      Violation(report_, 8, SpteRef(table, i),
                mark ? " is marked, and leads to no unsync page"
                     : " leads to an unsync page, and is not marked");
    }
  }
  const unsigned counted =
      page.state == PageState::kFree ? 0 : page.unsync_children;
  if (marked != counted) {
    Violation(report_, 8, "table ", ToInt(table), " has ", marked, " marks, ",
              counted, " counted");
  }
}

}  // namespace shadowmmu
