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
//     the others before they enter.
//
// Locking: the MMU lock.

#ifndef SHADOWMMU_MMU_FLUSH_H_
#define SHADOWMMU_MMU_FLUSH_H_

#include "absl/base/thread_annotations.h"
#include "src/mmu/vm.h"

namespace shadowmmu {

class FlushObligation {
 public:
  FlushObligation() = default;
  ~FlushObligation() {
    SMMU_DCHECK(!owed_) << "a TLB flush was owed and never paid";
  }
  FlushObligation(const FlushObligation&) = delete;
  FlushObligation& operator=(const FlushObligation&) = delete;

  void Owe() { owed_ = true; }
  bool owed() const { return owed_; }
  // Does nothing if nothing is owed.
  void Pay(Vm& vm) ABSL_SHARED_LOCKS_REQUIRED(vm.lock) {
    if (owed_) PayNow(vm);
  }

 private:
  void PayNow(Vm& vm) ABSL_SHARED_LOCKS_REQUIRED(vm.lock);

  bool owed_ = false;
};

// Leaves `requests` with every vCPU, and kicks those in the guest, so that they
// serve them. Only sends.
void RequestAll(Vm& vm, uint32_t requests) ABSL_SHARED_LOCKS_REQUIRED(vm.lock);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_FLUSH_H_
