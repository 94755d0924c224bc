// Orphans: shadow pages whose guest tables the guest has let go of. A kernel
// that takes the tables of a process apart clears the entry that names each,
// and gives its memory to somebody else: were the table shadowed on, the new
// owner's first stores would cost exits until write flooding notices.
//
//  1. An orphan is a page that nothing links, that is no root, and whose last
//     link was made from an entry that names it no longer. An entry that still
//     names the same table (other rights, A cleared) makes none: the next walk
//     links the page again.
//  2. Only what a store unlinks itself is looked at, not what lies below that:
//     kernels clear from the bottom up.
//
// Locking: the MMU lock, in one hold from Note to Zap.

#ifndef SHADOWMMU_MMU_ORPHANS_H_
#define SHADOWMMU_MMU_ORPHANS_H_

#include <array>
#include <cstddef>

#include "absl/base/thread_annotations.h"
#include "src/mmu/vm.h"

namespace shadowmmu {

class Orphans {
 public:
  // The guest's entry behind `ref`, of an indirect page, has changed, and `ref`
  // is dropped next.
  void Note(Vm& vm, SpteRef ref) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);
  // Zaps the pages of these entries that are orphans now.
  void Zap(Vm& vm) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);

 private:
  // An edit of one entry unlinks one page, or two of 4-byte entries, from each
  // page that shadows the table. More than these are left to write flooding.
  std::array<TableIndex, 8> child_;
  size_t count_ = 0;
};

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_ORPHANS_H_
