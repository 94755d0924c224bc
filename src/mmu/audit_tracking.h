// The audit's look at guest tables that are shadowed: the counts that their
// slots keep, and that no spte can write one that is tracked (invariants 7, 9,
// 11).
//
// Locking: the MMU lock.

#ifndef SHADOWMMU_MMU_AUDIT_TRACKING_H_
#define SHADOWMMU_MMU_AUDIT_TRACKING_H_

#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "shadowmmu/audit.h"
#include "src/mmu/vm.h"

namespace shadowmmu {

class AuditTracking {
 public:
  AuditTracking(Vm& vm, AuditReport& report) : vm_(vm), report_(report) {}

  // The caller holds the MMU lock.
  void Check();

 private:
  void CountPage(TableIndex table) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm_.lock);
  void CheckSlot(const Memslot& slot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm_.lock);
  void CheckNotWritable(Gfn gfn) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm_.lock);

  Vm& vm_;
  AuditReport& report_;
  uint64_t pages_shadowing_[kAddressSpaces] = {};
  // How many shadow pages shadow the guest table in a gfn, by space, and how
  // many of them are not unsync.
  struct TableCounts {
    uint32_t shadowing = 0;
    uint32_t tracking = 0;
  };
  absl::flat_hash_map<uint64_t, TableCounts> tables_[kAddressSpaces];
};

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_AUDIT_TRACKING_H_
