#include "src/mmu/audit_lists.h"

#include <ostream>

namespace shadowmmu {

std::ostream& operator<<(std::ostream& os, const ListKey& key) {
  if (key.kind == ListKey::Kind::kParents) {
    return os << "the parent list of table " << ToInt(key.child);
  }
  return os << "the " << key.level << " rmap of " << key.gfn << " of "
            << key.space;
}

const ListKey* AuditLists::Find(SpteRef ref) const {
  const auto found = list_of_.find(ref.bits());
  return found == list_of_.end() ? nullptr : &found->second;
}

void AuditLists::Collect() {
  vm_.lock.AssertHeld();
  list_of_.reserve(256);
  vm_.slot_table().ForEach([&](const Memslot& slot) {
    vm_.lock.AssertHeld();
    CollectSlot(slot);
  });
  for (uint32_t i = 1; i < vm_.arena.end(); ++i) {
    const auto table = static_cast<TableIndex>(i);
    const ShadowPage& page = vm_.arena.Page(table);
    if (page.state == PageState::kFree) continue;
    CollectList(page.parents, ParentOwner(table),
                {.kind = ListKey::Kind::kParents, .child = table});
  }
  const uint32_t reserved = InReserves(vm_).descriptors;
  if (descriptors_ + reserved != vm_.lists.descriptors().in_use()) {
    Violation(report_, 11, descriptors_, " descriptors are on lists, ",
              reserved, " reserved, ", vm_.lists.descriptors().in_use(),
              " counted in use");
  }
}

void AuditLists::CollectSlot(const Memslot& slot) {
  ++report_.slots;
  SlotRmaps& rmaps = *slot.rmaps;
  const uint64_t epoch = vm_.generations.arena_epoch;
  const AddressSpace space = slot.spec.space;
  uint64_t entries = 0;
  const auto collect = [&](RmapHead head, Gfn gfn, Level level) -> uint64_t {
    vm_.lock.AssertHeld();
    if (head.empty()) return 0;
    return CollectList(head, rmaps.Owner(gfn, level),
                       {.kind = ListKey::Kind::kRmap,
                        .space = space,
                        .level = level,
                        .gfn = gfn});
  };
  const auto count = [&](const char* what, Gfn gfn, uint64_t there,
                         uint32_t counted) {
    entries += there;
    if (there == counted) return;
    Violation(report_, 11, "the ", what, " of ", gfn, " of ", space, " has ",
              there, " sptes on its rmaps, ", counted, " counted");
  };
  rmaps.ForEachChunk(epoch, [&](RmapChunk& chunk) {
    uint64_t there = collect(chunk.head_2m, chunk.first_gfn, Level::k2M);
    for (uint32_t i = 0; i < chunk.gfns; ++i) {
      there += collect(chunk.heads()[i], chunk.first_gfn + i, Level::k4K);
    }
    count("chunk", chunk.first_gfn, there, chunk.leaf_sptes);
  });
  rmaps.ForEachGigabyte(epoch, [&](Gfn gfn, GigabyteRecord& record) {
    count("GiB", gfn, collect(record.head_1g, gfn, Level::k1G),
          record.leaf_sptes);
  });
  report_.rmap_entries += entries;
  if (entries != rmaps.leaf_sptes(epoch)) {
    Violation(report_, 11, slot.spec, ": ", entries, " sptes on its rmaps, ",
              rmaps.leaf_sptes(epoch), " counted");
  }
}

uint64_t AuditLists::CollectList(RmapHead head, OwnerTag owner,
                                 const ListKey& key) {
  if (head.empty()) return 0;
  if (!head.chain()) {
    Note(head.single(), key);
    return 1;
  }
  if (head.descriptor() == 0) Violation(report_, 2, key, " is a chain of none");
  uint64_t entries = 0;
  const uint64_t most = vm_.lists.descriptors().in_use();
  uint64_t seen = 0;
  bool first = true;
  for (uint32_t index = head.descriptor(); index != 0;
       index = vm_.lists.descriptors()[index].next) {
    if (++seen > most) {
      Violation(report_, 2, key, " does not end");
      break;
    }
    if (!vm_.lists.descriptors().Exists(index)) {
      Violation(report_, 2, key, " names descriptor ", index);
      break;
    }
    entries += CollectDescriptor(index, first, owner, key);
    first = false;
  }
  return entries;
}

uint64_t AuditLists::CollectDescriptor(uint32_t index, bool first,
                                       OwnerTag owner, const ListKey& key) {
  ++descriptors_;
  const PteListDesc& desc = vm_.lists.descriptors()[index];
  if (desc.owner() != owner) {
    Violation(report_, 2, key, " has a descriptor of another owner");
  }
  const bool full = desc.count() == PteListDesc::kCapacity;
  if (desc.count() == 0 || desc.count() > PteListDesc::kCapacity ||
      (!first && !full)) {
    Violation(report_, 2, key, " has a descriptor of ", desc.count(),
              first ? " entries" : " entries that is not its first");
  }
  const unsigned count = std::min(desc.count(), PteListDesc::kCapacity);
  for (unsigned i = 0; i < count; ++i) {
    const SpteRef ref = desc.sptes[i];
    Note(ref, key);
    const BackReferences& places = vm_.lists.back_references();
    if (ToInt(ref.table()) < vm_.arena.end() &&
        (!places.Has(ref.table()) || places.Of(ref) != Place(index, i))) {
      Violation(report_, 2, ref, " on ", key,
                " has a back-reference that points elsewhere");
    }
  }
  return count;
}

void AuditLists::Note(SpteRef ref, const ListKey& key) {
  if (ref.nil() || ToInt(ref.table()) >= vm_.arena.end() ||
      vm_.arena.Page(ref.table()).state == PageState::kFree) {
    Violation(report_, 2, key, " names ", ref, ", a freed spte");
    return;
  }
  const auto [other, fresh] = list_of_.emplace(ref.bits(), key);
  if (!fresh) {
    Violation(report_, 1, ref, " sits on ", other->second, " and on ", key);
  }
  if (!vm_.arena.Load(ref).present()) {
    Violation(report_, 2, key, " names ", ref, ", which is not present");
    return;
  }
  if (key.kind == ListKey::Kind::kRmap) {
    CheckRmapEntry(ref, key);
  } else {
    CheckParentEntry(ref, key);
  }
}

void AuditLists::CheckRmapEntry(SpteRef ref, const ListKey& key) {
  const PageRole role = vm_.arena.Page(ref.table()).role;
  if (!vm_.arena.Load(ref).leaf(role.level())) {
    Violation(report_, 2, key, " names ", ref, ", which is no leaf");
  }
  if (role.space() != key.space || role.level() != key.level ||
      vm_.arena.GfnOf(ref) != key.gfn) {
    Violation(report_, 2, key, " names ", ref, ", which maps ",
              vm_.arena.GfnOf(ref), " of ", role.space(), " at ", role.level());
  }
}

void AuditLists::CheckParentEntry(SpteRef ref, const ListKey& key) {
  const Spte spte = vm_.arena.Load(ref);
  const Level level = vm_.arena.Page(ref.table()).role.level();
  if (spte.leaf(level) ||
      vm_.arena.TableAt(vm_.format.TableOf(spte)) != key.child) {
    Violation(report_, 4, key, " names ", ref, ", which does not point there");
  }
}

}  // namespace shadowmmu
