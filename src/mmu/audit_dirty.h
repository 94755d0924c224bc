// The audit's look at slots that log (invariant 13): what maps them is small,
// and writable only where the page is marked.
//
// Locking: the MMU lock.

#ifndef SHADOWMMU_MMU_AUDIT_DIRTY_H_
#define SHADOWMMU_MMU_AUDIT_DIRTY_H_

#include "shadowmmu/audit.h"
#include "src/mmu/vm.h"

namespace shadowmmu {

class AuditDirty {
 public:
  AuditDirty(Vm& vm, AuditReport& report) : vm_(vm), report_(report) {}

  // The caller holds the MMU lock.
  void Check();

 private:
  bool AnySlotLogs() ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm_.lock);
  void CheckPage(TableIndex table) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm_.lock);
  void CheckLeaf(SpteRef ref, Spte spte)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm_.lock);

  Vm& vm_;
  AuditReport& report_;
};

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_AUDIT_DIRTY_H_
