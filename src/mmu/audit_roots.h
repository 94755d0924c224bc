// The audit's look at where vCPUs walk from: counts of roots, the keys of those
// that a vCPU keeps, their generations, and what its CPU is pointed to
// (invariants 4, 5, 11).
//
// Locking: the MMU lock.

#ifndef SHADOWMMU_MMU_AUDIT_ROOTS_H_
#define SHADOWMMU_MMU_AUDIT_ROOTS_H_

#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "shadowmmu/audit.h"
#include "src/mmu/vcpu_state.h"
#include "src/mmu/vm.h"

namespace shadowmmu {

class AuditRoots {
 public:
  AuditRoots(Vm& vm, AuditReport& report) : vm_(vm), report_(report) {}

  // The caller holds the MMU lock.
  void Check();

 private:
  void CountRoot(const RootHandle& root)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm_.lock);
  void CheckKeys(const VcpuState& vcpu)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm_.lock, vcpu.roots_lock);
  void CheckEntered(const VcpuState& vcpu)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm_.lock);
  void CheckHardwareRoot(const VcpuState& vcpu)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm_.lock);
  void CheckQuadrant(const VcpuState& vcpu, unsigned i)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm_.lock);

  Vm& vm_;
  AuditReport& report_;
  // How many vCPUs hold a table, by its number.
  absl::flat_hash_map<uint32_t, uint32_t> held_;
};

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_AUDIT_ROOTS_H_
