// FlushObligation: a TLB flush that is owed, because rights were taken away.
//
//  1. Whoever takes rights away from a present entry (clears it, write-protects
//     it, points it elsewhere) owes a flush from then on.
//  2. It is paid before the MMU lock is dropped, and before a table that was
//     unlinked is freed. An obligation that dies unpaid is a CHECK in debug
//     builds. Who holds the MMU lock shared owes it to others, too, who find
//     the right gone and owe nothing: it takes none away without
//     structure_lock, and pays before it drops that.
//  3. Paying leaves every vCPU flushed: those in the guest when it returns,
//     the others before they enter. What was taken from obsolete pages alone
//     concerns those only that are in the guest on an obsolete root: a current
//     page never leads to an obsolete one, and whoever gets a new root flushes
//     before it enters. So the walk that reclaims what a bump left behind
//     disturbs nobody who has seen the bump.
//
// Locking: the MMU lock.

#ifndef SHADOWMMU_MMU_FLUSH_H_
#define SHADOWMMU_MMU_FLUSH_H_

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "src/mmu/vm.h"

namespace shadowmmu {

// Whose CPUs can have cached what is taken away.
enum class FlushReach : uint8_t { kNobody, kOnObsoleteRoots, kEverybody };

class FlushObligation {
 public:
  // `reach`: of what will be owed.
  explicit FlushObligation(FlushReach reach = FlushReach::kEverybody)
      : reach_(reach) {}
  ~FlushObligation() {
    SMMU_DCHECK(!owed()) << "a TLB flush was owed and never paid";
  }
  FlushObligation(const FlushObligation&) = delete;
  FlushObligation& operator=(const FlushObligation&) = delete;

  void Owe() { owed_ = std::max(owed_, reach_); }
  bool owed() const { return owed_ != FlushReach::kNobody; }
  // What `other` owes is owed here now, and there no more.
  void TakeOver(FlushObligation& other) {
    owed_ = std::max(owed_, std::exchange(other.owed_, FlushReach::kNobody));
  }
  // Does nothing if nothing is owed.
  void Pay(Vm& vm) ABSL_SHARED_LOCKS_REQUIRED(vm.lock) {
    if (owed()) PayNow(vm);
  }

 private:
  void PayNow(Vm& vm) ABSL_SHARED_LOCKS_REQUIRED(vm.lock);

  const FlushReach reach_;
  FlushReach owed_ = FlushReach::kNobody;
};

// Whether the CPU may be walking obsolete pages.
bool InGuestOnObsoleteRoot(const Vm& vm, const VcpuState& vcpu)
    ABSL_SHARED_LOCKS_REQUIRED(vm.lock);
// The vCPUs of which that is so. The others have flushed since the bump, or
// will before they enter: with the new root that it asked them to load.
VcpuSet OnObsoleteRoots(const Vm& vm) ABSL_SHARED_LOCKS_REQUIRED(vm.lock);

// Leaves `requests` with every vCPU, and kicks those in the guest, so that they
// serve them. Only sends.
void RequestAll(Vm& vm, uint32_t requests) ABSL_SHARED_LOCKS_REQUIRED(vm.lock);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_FLUSH_H_
