// PteLists: the lists of sptes that rmaps and parent lists are made of. It
// owns the descriptors and the back-references; the heads belong to whoever
// keeps the list (a slot's chunk, a shadow page's header).
//
//  1. An spte is on at most one list at a time.
//  2. Add never fails: what it may take is in the caller's reserve.
//  3. Remove needs the owner tag that Add was given; a reference that is not
//     there, or a wrong tag, is a CHECK that prints the list.
//  4. Both cost the same whatever the list's length. Clear costs as much as the
//     list has descriptors.
//  5. ForEach goes from the newest entry down. Its callback may remove the
//     entry that it was given, and no other, and may see an entry twice.
//
// Locking: a list is guarded by whatever guards its head. Several threads may
// change different lists at once if they only add, each with a reserve of its
// own; whoever takes off is alone. The pools: see FillReserve.

#ifndef SHADOWMMU_RMAP_PTE_LISTS_H_
#define SHADOWMMU_RMAP_PTE_LISTS_H_

#include <cstdint>
#include <string>

#include "absl/base/attributes.h"
#include "shadowmmu/host.h"
#include "src/base/block_pool.h"
#include "src/base/check.h"
#include "src/base/prefetch.h"
#include "src/rmap/back_references.h"
#include "src/rmap/list_reserve.h"
#include "src/rmap/pte_list_desc.h"
#include "src/rmap/rmap_head.h"
#include "src/rmap/spte_ref.h"

namespace shadowmmu {

class PteLists {
 public:
  // What one Add may take from the reserve: a descriptor, and an array of
  // places for each of two tables, because turning a single into a chain gives
  // its one entry a place too.
  static constexpr uint32_t kAddDescriptors = 1;
  static constexpr uint32_t kAddPlaceArrays = 2;
  // How many descriptors FillReserve adds to those that are needed, at most.
  // (Place arrays are large and seldom needed: of these none.)
  static constexpr uint32_t kMoreDescriptors = 64;

  // `reserves`: how many there will be at once.
  PteLists(Host& host, uint32_t table_capacity, uint32_t max_descriptors,
           uint32_t reserves);
  [[nodiscard]] bool Init();

  void Add(RmapHead& head, SpteRef ref, OwnerTag owner, ListReserve& reserve) {
    SMMU_DCHECK(!ref.nil());
    if (head.empty()) {
      head = RmapHead::Single(ref);
    } else {
      AddToOthers(head, ref, owner, reserve);
    }
  }
  void Remove(RmapHead& head, SpteRef ref, OwnerTag owner) {
    SMMU_DCHECK(!ref.nil());
    if (head == RmapHead::Single(ref)) {
      head = RmapHead();
    } else {
      RemoveFromChain(head, ref, owner);
    }
  }
  // Takes everything off.
  void Clear(RmapHead& head, OwnerTag owner) {
    if (head.chain()) ClearChain(head, owner);
    head = RmapHead();
  }

  // Calls visit(SpteRef) for each entry; rule 5. Some entries before it is
  // visited, ahead(SpteRef) is told of an entry of a long chain.
  template <typename Visit, typename Ahead>
  void ForEach(RmapHead head, Visit visit, Ahead ahead) const;
  template <typename Visit>
  void ForEach(RmapHead head, Visit visit) const {
    ForEach(head, visit, [](SpteRef) {});
  }
  // The same for the entries of a chain's first descriptor only.
  template <typename Visit>
  void ForEachInFirst(RmapHead head, Visit visit) const;

  // Ask the cache for what a look at the list, or the removal of `ref` from it,
  // will touch. In this order, each some entries after the other.
  void PrefetchFirst(RmapHead head) const {
    if (head.chain()) Prefetch(&descriptors_[head.descriptor()]);
  }
  void PrefetchDescriptors(RmapHead head, SpteRef ref) const;
  void PrefetchMoved(RmapHead head) const;

  uint64_t Count(RmapHead head) const;
  bool Contains(RmapHead head, SpteRef ref) const;
  // The newest entry, nil if there is none: for loops that remove everything.
  SpteRef Newest(RmapHead head) const;

  // What a reserve lacks of `needs`. Whether the pools have that; gives it to
  // the reserve, and some more; takes all of it back. The caller holds the lock
  // that guards the pools. Precondition of FillReserve: CanFill.
  static ListNeeds Lacking(const ListReserve& reserve, const ListNeeds& needs);
  bool CanFill(const ListReserve& reserve, const ListNeeds& needs) const;
  void FillReserve(ListReserve& reserve, const ListNeeds& needs);
  void EmptyReserve(ListReserve& reserve);

  // The table is going: none of its sptes is on any list.
  void DropTable(TableIndex table) { back_references_.Drop(table); }

  // Forgets all lists at once, with what reserves hold: who has a head or a
  // reserve must forget it, too. A table that comes into use after that begins.
  void Reset() {
    descriptors_.Reset();
    back_references_.Reset();
  }
  void BeginTable(TableIndex table) { back_references_.Begin(table); }

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
  template <typename Visit, typename Ahead>
  void ForEachInChain(RmapHead head, Visit visit, Ahead ahead) const;
  void AddToOthers(RmapHead& head, SpteRef ref, OwnerTag owner,
                   ListReserve& reserve);
  void ClearChain(RmapHead head, OwnerTag owner);
  void Append(RmapHead& head, SpteRef ref, OwnerTag owner,
              ListReserve& reserve);
  void RemoveFromChain(RmapHead& head, SpteRef ref, OwnerTag owner);
  [[noreturn]] void DieOnBadRemove(RmapHead head, SpteRef ref, OwnerTag owner,
                                   const char* why) const;

  BlockPool<PteListDesc> descriptors_;
  BackReferences back_references_;
};

// The descriptor that names `ref`, and the chain's first one, whose last entry
// will take its place.
inline void PteLists::PrefetchDescriptors(RmapHead head, SpteRef ref) const {
  if (!head.chain()) return;
  Prefetch(&descriptors_[head.descriptor()]);
  const uint32_t own = back_references_.Peek(ref).descriptor();
  if (own != 0) Prefetch(&descriptors_[own]);
}

// The place of that entry.
inline void PteLists::PrefetchMoved(RmapHead head) const {
  if (!head.chain()) return;
  const PteListDesc& first = descriptors_[head.descriptor()];
  if (first.count() == 0) return;
  back_references_.PrefetchPlace(first.sptes[first.count() - 1]);
}

template <typename Visit>
void PteLists::ForEachInFirst(RmapHead head, Visit visit) const {
  const PteListDesc& first = descriptors_[head.descriptor()];
  for (unsigned i = first.count(); i-- > 0;) visit(first.sptes[i]);
}

template <typename Visit, typename Ahead>
void PteLists::ForEach(RmapHead head, Visit visit, Ahead ahead) const {
  if (head.chain()) {
    ForEachInChain(head, visit, ahead);
  } else if (!head.empty()) {
    visit(head.single());
  }
}

// Not inlined: most lists are singles, whose loops must stay lean.
template <typename Visit, typename Ahead>
ABSL_ATTRIBUTE_NOINLINE void PteLists::ForEachInChain(RmapHead head,
                                                      Visit visit,
                                                      Ahead ahead) const {
  for (uint32_t index = head.descriptor(); index != 0;) {
    const PteListDesc& desc = descriptors_[index];
    // Read first: removing the last entry frees this descriptor. Entries that
    // move into a hole come from the chain's first descriptor's end, which
    // this loop has passed already.
    const uint32_t next = desc.next;
    if (next != 0) {
      const PteListDesc& following = descriptors_[next];
      if (following.next != 0) Prefetch(&descriptors_[following.next]);
      for (const SpteRef ref : following.sptes) ahead(ref);
    }
    for (unsigned i = desc.count(); i-- > 0;) visit(desc.sptes[i]);
    index = next;
  }
}

}  // namespace shadowmmu

#endif  // SHADOWMMU_RMAP_PTE_LISTS_H_
