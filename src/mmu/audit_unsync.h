// The audit's look at unsync pages (invariant 8): which pages may be so, and
// whether every way down to them is marked, and no other.
//
// Locking: the MMU lock.

#ifndef SHADOWMMU_MMU_AUDIT_UNSYNC_H_
#define SHADOWMMU_MMU_AUDIT_UNSYNC_H_

#include <cstdint>

#include "shadowmmu/audit.h"
#include "src/mmu/vm.h"

namespace shadowmmu {

class AuditUnsync {
 public:
  AuditUnsync(Vm& vm, AuditReport& report) : vm_(vm), report_(report) {}

  // The caller holds the MMU lock.
  void Check();

 private:
  void CheckUnsync(TableIndex table) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm_.lock);
  void CheckMarks(TableIndex table) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm_.lock);
  // Whether entry `ref` must be marked.
  bool LeadsToUnsync(SpteRef ref) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm_.lock);

  Vm& vm_;
  AuditReport& report_;
  uint64_t unsync_ = 0;
};

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_AUDIT_UNSYNC_H_
