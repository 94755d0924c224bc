// The audit's picture of every list: who owns it, and every spte on it. Built
// by reading heads and descriptors as they are, trusting nothing.
//
// Locking: the MMU lock.

#ifndef SHADOWMMU_MMU_AUDIT_LISTS_H_
#define SHADOWMMU_MMU_AUDIT_LISTS_H_

#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "shadowmmu/audit.h"
#include "src/mmu/vm.h"

namespace shadowmmu {

// The list that an spte was found on.
struct ListKey {
  enum class Kind : uint8_t { kRmap, kParents };
  Kind kind = Kind::kRmap;
  AddressSpace space = AddressSpace::kNormal;  // of an rmap
  Level level = Level::k4K;                    // of an rmap
  Gfn gfn;                                     // of an rmap
  TableIndex child = TableIndex::kNil;         // of a parent list
};
std::ostream& operator<<(std::ostream& os, const ListKey& key);

class AuditLists {
 public:
  AuditLists(Vm& vm, AuditReport& report) : vm_(vm), report_(report) {}

  // Reads every rmap of every slot, and every page's parent list. The caller
  // holds the MMU lock.
  void Collect();

  // The list that `ref` is on; nullptr if on none.
  const ListKey* Find(SpteRef ref) const;

 private:
  void CollectSlot(const Memslot& slot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm_.lock);
  // Returns how many entries the list has.
  uint64_t CollectList(RmapHead head, OwnerTag owner, const ListKey& key)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm_.lock);
  uint64_t CollectDescriptor(uint32_t index, bool first, OwnerTag owner,
                             const ListKey& key)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm_.lock);
  void Note(SpteRef ref, const ListKey& key)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm_.lock);
  void CheckRmapEntry(SpteRef ref, const ListKey& key)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm_.lock);
  void CheckParentEntry(SpteRef ref, const ListKey& key)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm_.lock);

  Vm& vm_;
  AuditReport& report_;
  absl::flat_hash_map<uint32_t, ListKey> list_of_;
  uint64_t descriptors_ = 0;
};

// Adds a line "invariant N: ..." made of the rest.
template <typename... Parts>
void Violation(AuditReport& report, int invariant, const Parts&... parts) {
  std::ostringstream line;
  line << "invariant " << invariant << ": ";
  (line << ... << parts);
  report.violations.push_back(line.str());
}

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_AUDIT_LISTS_H_
