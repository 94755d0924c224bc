// PteLists: the lists of sptes that rmaps and parent lists are made of. It
// owns the descriptors and the back-references; the heads belong to whoever
// keeps the list (a slot's chunk, a shadow page's header).
//
//  1. An spte is on at most one list at a time.
//  2. Add never fails: the caller has reserved kAddNeeds first.
//  3. Remove needs the owner tag that Add was given; a reference that is not
//     there, or a wrong tag, is a CHECK that prints the list.
//  4. Both cost the same whatever the list's length.
//  5. ForEach goes from the newest entry down. Its callback may remove the
//     entry that it was given, and no other, and may see an entry twice.
//
// Locking: none of its own; the MMU lock.

#ifndef SHADOWMMU_RMAP_PTE_LISTS_H_
#define SHADOWMMU_RMAP_PTE_LISTS_H_

#include <cstdint>
#include <string>

#include "shadowmmu/host.h"
#include "src/base/block_pool.h"
#include "src/rmap/back_references.h"
#include "src/rmap/pte_list_desc.h"
#include "src/rmap/rmap_head.h"
#include "src/rmap/spte_ref.h"

namespace shadowmmu {

class PteLists {
 public:
  // What one Add may take from the pools: a descriptor, and an array of places
  // for each of two tables, because turning a single into a chain gives its
  // one entry a place too.
  static constexpr uint32_t kAddDescriptors = 1;
  static constexpr uint32_t kAddPlaceArrays = 2;

  PteLists(Host& host, uint32_t table_capacity, uint32_t max_descriptors);
  [[nodiscard]] bool Init();

  void Add(RmapHead& head, SpteRef ref, OwnerTag owner);
  void Remove(RmapHead& head, SpteRef ref, OwnerTag owner);

  // Calls visit(SpteRef) for each entry; rule 5.
  template <typename Visit>
  void ForEach(RmapHead head, Visit visit) const;

  uint64_t Count(RmapHead head) const;
  bool Contains(RmapHead head, SpteRef ref) const;
  // The newest entry, nil if there is none: for loops that remove everything.
  SpteRef Newest(RmapHead head) const;

  // The table is going: none of its sptes is on any list.
  void DropTable(TableIndex table) { back_references_.Drop(table); }

  // For people: "chain of 3, owner 0x..: spte 4[1], ...", at most 40 entries.
  std::string Print(RmapHead head) const;

  BlockPool<PteListDesc>& descriptors() { return descriptors_; }
  const BlockPool<PteListDesc>& descriptors() const { return descriptors_; }
  BackReferences& back_references() { return back_references_; }
  const BackReferences& back_references() const { return back_references_; }
  uint64_t bytes() const {
    return descriptors_.bytes() + back_references_.bytes();
  }

 private:
  void Append(RmapHead& head, SpteRef ref, OwnerTag owner);
  void RemoveFromChain(RmapHead& head, SpteRef ref, OwnerTag owner);
  [[noreturn]] void DieOnBadRemove(RmapHead head, SpteRef ref, OwnerTag owner,
                                   const char* why) const;

  BlockPool<PteListDesc> descriptors_;
  BackReferences back_references_;
};

template <typename Visit>
void PteLists::ForEach(RmapHead head, Visit visit) const {
  if (head.empty()) return;
  if (!head.chain()) {
    visit(head.single());
    return;
  }
  for (uint32_t index = head.descriptor(); index != 0;) {
    const PteListDesc& desc = descriptors_[index];
    // Read first: removing the last entry frees this descriptor. Entries that
    // move into a hole come from the chain's first descriptor's end, which
    // this loop has passed already.
    const uint32_t next = desc.next;
    for (unsigned i = desc.count(); i-- > 0;) visit(desc.sptes[i]);
    index = next;
  }
}

}  // namespace shadowmmu

#endif  // SHADOWMMU_RMAP_PTE_LISTS_H_
