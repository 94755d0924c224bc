// The audit's look at every shadow page: its place in hash and list, and its
// entries (invariants 1, 4 to 6, 11, 12).
//
// Locking: the MMU lock.

#ifndef SHADOWMMU_MMU_AUDIT_PAGES_H_
#define SHADOWMMU_MMU_AUDIT_PAGES_H_

#include <cstdint>

#include "absl/container/flat_hash_set.h"
#include "shadowmmu/audit.h"
#include "src/mmu/audit_lists.h"
#include "src/mmu/vm.h"

namespace shadowmmu {

class AuditPages {
 public:
  AuditPages(Vm& vm, const AuditLists& lists, AuditReport& report)
      : vm_(vm), lists_(lists), report_(report) {}

  // The caller holds the MMU lock.
  void Check();

 private:
  void CheckActiveList() ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm_.lock);
  void CheckPage(TableIndex table) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm_.lock);
  void CheckClear(TableIndex table) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm_.lock);
  void CheckTranslations(TableIndex table)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm_.lock);
  void CheckEntries(TableIndex table) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm_.lock);
  void CheckLeaf(SpteRef ref, Spte spte)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm_.lock);
  void CheckLink(SpteRef ref, Spte spte)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm_.lock);
  void CheckCounts() ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm_.lock);

  Vm& vm_;
  const AuditLists& lists_;
  AuditReport& report_;
  uint64_t active_ = 0;
  uint64_t zapped_ = 0;
  uint64_t indirect_ = 0;
  uint64_t place_arrays_ = 0;
  absl::flat_hash_set<uint32_t> translations_;
};

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_AUDIT_PAGES_H_
