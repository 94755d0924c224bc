// ZapBatch: takes shadow pages out for good, several under one TLB flush.
//
//  1. Zap unlinks the page at once, from both sides: no lookup finds it, and no
//     rmap, no parent names its entries.
//  2. Commit pays the flush, and only then frees the tables: until then a CPU
//     may still be walking them.
//  3. A page that is some vCPU's root stays, empty, until that vCPU lets go of
//     it; it is off the active list, so no walk visits it again.
//  4. A batch is committed before the MMU lock is dropped.
//
// Locking: the MMU lock.

#ifndef SHADOWMMU_MMU_ZAP_H_
#define SHADOWMMU_MMU_ZAP_H_

#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "src/mmu/flush.h"
#include "src/mmu/spte_sweep.h"
#include "src/mmu/vm.h"

namespace shadowmmu {

class ZapBatch {
 public:
  ZapBatch() = default;
  ~ZapBatch() {
    SMMU_DCHECK(unfreed_ == TableIndex::kNil) << "a zap was not committed";
  }
  ZapBatch(const ZapBatch&) = delete;
  ZapBatch& operator=(const ZapBatch&) = delete;

  // Precondition: an active page.
  void Zap(Vm& vm, TableIndex table, Clearing clearing = Clearing::kExchange)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);
  void Commit(Vm& vm) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);

  // What else is taken away with the pages is owed here, and paid by Commit.
  FlushObligation& flush() { return flush_; }
  // Pages zapped in the batch's whole life, committed or not.
  uint64_t zapped() const { return zapped_; }

 private:
  FlushObligation flush_;
  TableIndex unfreed_ = TableIndex::kNil;  // linked by hash_next
  bool root_zapped_ = false;
  uint64_t zapped_ = 0;
};

// Frees a zapped page whose last vCPU has let go of it as a root.
void FreeUnpinned(Vm& vm, TableIndex table)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_ZAP_H_
