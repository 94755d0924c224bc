#include "src/rmap/pte_lists.h"

#include <algorithm>
#include <bit>
#include <sstream>
#include <string>

#include "src/base/check.h"

namespace shadowmmu {
namespace {

// Blocks of a large VM are 2 MiB, to sit on huge pages; those of a small one
// are small, so that a thousand small VMs cost little.
constexpr uint64_t kLargeBlockBytes = uint64_t{2} << 20;
constexpr uint64_t kSmallBlockBytes = uint64_t{16} << 10;
constexpr uint32_t kLargeVmTables = 4096;

unsigned BlockShift(uint32_t table_capacity, size_t object_bytes) {
  const uint64_t bytes =
      table_capacity >= kLargeVmTables ? kLargeBlockBytes : kSmallBlockBytes;
  return static_cast<unsigned>(std::bit_width(bytes / object_bytes) - 1);
}

}  // namespace

// Of both there is enough beside what all other reserves may hold: so when a
// pool is at its limit, what it has left depends on what is on lists alone.
PteLists::PteLists(Host& host, uint32_t table_capacity,
                   uint32_t max_descriptors, uint32_t reserves)
    : descriptors_(host,
                   std::min(max_descriptors + reserves * IndexStack::kCapacity,
                            kMaxDescriptors - 1),
                   BlockShift(table_capacity, sizeof(PteListDesc))),
      back_references_(host, table_capacity,
                       table_capacity + reserves * IndexStack::kCapacity,
                       BlockShift(table_capacity, sizeof(PlaceArray))) {
  SMMU_CHECK_LT(max_descriptors, kMaxDescriptors);
}

bool PteLists::Init() { return descriptors_.Init() && back_references_.Init(); }

void PteLists::AddToOthers(RmapHead& head, SpteRef ref, OwnerTag owner,
                           ListReserve& reserve) {
  if (!head.chain()) {
    const SpteRef first = head.single();
    SMMU_CHECK(first != ref) << ref << " is on the list already";
    const uint32_t index = reserve.descriptors.Pop();
    descriptors_[index].Reset(owner, 0);
    head = RmapHead::Chain(index);
    Append(head, first, owner, reserve);
  }
  Append(head, ref, owner, reserve);
}

void PteLists::Append(RmapHead& head, SpteRef ref, OwnerTag owner,
                      ListReserve& reserve) {
  uint32_t index = head.descriptor();
  SMMU_CHECK(descriptors_[index].owner() == owner)
      << ref << " put on a list of another owner: " << Print(head);
  if (descriptors_[index].count() == PteListDesc::kCapacity) {
    const uint32_t fresh = reserve.descriptors.Pop();
    descriptors_[fresh].Reset(owner, index);
    head = RmapHead::Chain(fresh);
    index = fresh;
  }
  back_references_.Ensure(ref.table(), reserve);
  back_references_.Of(ref) = Place(index, descriptors_[index].Push(ref));
}

void PteLists::RemoveFromChain(RmapHead& head, SpteRef ref, OwnerTag owner) {
  if (head.empty()) DieOnBadRemove(head, ref, owner, "the list is empty");
  if (!head.chain()) {
    DieOnBadRemove(head, ref, owner, "the list holds another spte");
  }
  const Place place = back_references_.Peek(ref);
  if (place.descriptor() == 0) {
    DieOnBadRemove(head, ref, owner, "it was never in a chain");
  }
  PteListDesc& desc = descriptors_[place.descriptor()];
  if (place.position() >= desc.count() || desc.sptes[place.position()] != ref) {
    DieOnBadRemove(head, ref, owner, "it is not where its place says");
  }
  const uint32_t first_index = head.descriptor();
  PteListDesc& first = descriptors_[first_index];
  if (desc.owner() != owner || first.owner() != owner) {
    DieOnBadRemove(head, ref, owner, "it sits on a list of another owner");
  }
  const SpteRef last = first.Pop();
  if (last != ref) {
    desc.sptes[place.position()] = last;
    back_references_.Of(last) = place;
  }
  if (first.count() == 0) {
    head = first.next == 0 ? RmapHead() : RmapHead::Chain(first.next);
    descriptors_.Put(first_index);
  }
}

void PteLists::ClearChain(RmapHead head, OwnerTag owner) {
  for (uint32_t index = head.descriptor(); index != 0;) {
    PteListDesc& desc = descriptors_[index];
    SMMU_CHECK(desc.owner() == owner)
        << "a list of another owner cleared: " << Print(head);
    const uint32_t next = desc.next;
    desc.Reset(OwnerTag(), 0);  // stale places must find nothing here
    descriptors_.Put(index);
    index = next;
  }
}

namespace {

uint32_t LackingOf(const IndexStack& stack, uint32_t wanted) {
  return wanted - std::min(wanted, stack.count());
}

// Takes `lacking`, and up to `more`: so that not each fault that adds one fills
// again.
template <typename T>
void Fill(IndexStack& stack, uint32_t lacking, uint32_t more,
          BlockPool<T>& pool) {
  if (lacking == 0) return;
  const uint32_t spare = (pool.available() - lacking) / 2;
  const uint32_t room = IndexStack::kCapacity - stack.count() - lacking;
  for (uint32_t i = lacking + std::min({more, spare, room}); i > 0; --i) {
    stack.Push(pool.Take());
  }
}

template <typename T>
void Empty(IndexStack& stack, BlockPool<T>& pool) {
  while (stack.count() != 0) pool.Put(stack.Pop());
}

}  // namespace

ListNeeds PteLists::Lacking(const ListReserve& reserve,
                            const ListNeeds& needs) {
  return {.descriptors = LackingOf(reserve.descriptors, needs.descriptors),
          .place_arrays = LackingOf(reserve.place_arrays, needs.place_arrays)};
}

bool PteLists::CanFill(const ListReserve& reserve,
                       const ListNeeds& needs) const {
  const ListNeeds lacking = Lacking(reserve, needs);
  return descriptors_.available() >= lacking.descriptors &&
         back_references_.pool().available() >= lacking.place_arrays;
}

void PteLists::FillReserve(ListReserve& reserve, const ListNeeds& needs) {
  const ListNeeds lacking = Lacking(reserve, needs);
  Fill(reserve.descriptors, lacking.descriptors, kMoreDescriptors,
       descriptors_);
  Fill(reserve.place_arrays, lacking.place_arrays, 0, back_references_.pool());
}

void PteLists::EmptyReserve(ListReserve& reserve) {
  Empty(reserve.descriptors, descriptors_);
  Empty(reserve.place_arrays, back_references_.pool());
}

uint64_t PteLists::Count(RmapHead head) const {
  uint64_t count = 0;
  ForEach(head, [&count](SpteRef) { ++count; });
  return count;
}

bool PteLists::Contains(RmapHead head, SpteRef ref) const {
  bool found = false;
  ForEach(head, [&](SpteRef entry) { found |= entry == ref; });
  return found;
}

SpteRef PteLists::Newest(RmapHead head) const {
  if (head.empty()) return SpteRef();
  if (!head.chain()) return head.single();
  const PteListDesc& desc = descriptors_[head.descriptor()];
  return desc.sptes[desc.count() - 1];
}

std::string PteLists::Print(RmapHead head) const {
  constexpr uint64_t kMost = 40;
  std::ostringstream out;
  if (head.empty()) {
    out << "empty list";
  } else if (!head.chain()) {
    out << "single " << head.single();
  } else {
    out << "chain of " << Count(head) << ", owner 0x" << std::hex
        << descriptors_[head.descriptor()].owner().bits() << std::dec << ":";
    uint64_t printed = 0;
    ForEach(head, [&](SpteRef ref) {
      if (printed++ < kMost) out << " " << ref;
    });
    if (printed > kMost) out << " ...";
  }
  return out.str();
}

void PteLists::DieOnBadRemove(RmapHead head, SpteRef ref, OwnerTag owner,
                              const char* why) const {
  SMMU_CHECK(false) << "cannot take " << ref << " off a list of owner 0x"
                    << std::hex << owner.bits() << std::dec << ": " << why
                    << "; " << Print(head);
  __builtin_unreachable();
}

}  // namespace shadowmmu
