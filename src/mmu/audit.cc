#include "shadowmmu/audit.h"

#include <ostream>

#include "src/mmu/audit_dirty.h"
#include "src/mmu/audit_lists.h"
#include "src/mmu/audit_pages.h"
#include "src/mmu/audit_roots.h"
#include "src/mmu/audit_tracking.h"
#include "src/mmu/audit_unsync.h"
#include "src/mmu/vm.h"

namespace shadowmmu {

AuditReport Audit(const Mmu& mmu) {
  Vm& vm = mmu.internals();
  AuditReport report;
  const VmLock held(vm);
  AuditLists lists(vm, report);
  lists.Collect();
  AuditPages(vm, lists, report).Check();
  AuditRoots(vm, report).Check();
  AuditTracking(vm, report).Check();
  AuditUnsync(vm, report).Check();
  AuditDirty(vm, report).Check();
  return report;
}

std::ostream& operator<<(std::ostream& os, const AuditReport& report) {
  os << "audit: " << report.pages << " shadow pages, " << report.sptes
     << " sptes, " << report.rmap_entries << " rmap entries, " << report.slots
     << " slots: ";
  if (report.ok()) return os << "all invariants hold\n";
  os << report.violations.size() << " violations\n";
  for (const std::string& line : report.violations) os << "  " << line << "\n";
  return os;
}

}  // namespace shadowmmu
