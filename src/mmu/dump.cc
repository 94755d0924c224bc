#include "shadowmmu/dump.h"

#include <algorithm>
#include <ostream>
#include <sstream>

#include "src/mmu/vm.h"

namespace shadowmmu {
namespace {

LeafRecord RecordLeaf(Vm& vm, SpteRef ref, Spte spte)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  const ShadowPage& page = vm.arena.Page(ref.table());
  const Level level = page.role.level();
  LeafRecord leaf;
  leaf.space = page.role.space();
  leaf.gfn = vm.arena.GfnOf(ref);
  leaf.level = level;
  leaf.pfn = vm.format.PfnOf(spte, level);
  leaf.writable = spte.writable();
  leaf.user = spte.rights().user();
  leaf.executable = spte.rights().execute();
  leaf.key = spte.key();
  leaf.accessed = spte.accessed();
  leaf.dirty = spte.dirty();
  leaf.obsolete = page.mmu_valid_gen != vm.generations.mmu_valid_gen;
  return leaf;
}

PageRecord RecordPage(Vm& vm, TableIndex table)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  const ShadowPage& page = vm.arena.Page(table);
  std::ostringstream role;
  role << page.role;
  PageRecord record;
  record.gfn = page.gfn;
  record.role = role.str();
  record.mmu_valid_gen = page.mmu_valid_gen;
  record.roots = page.root_count;
  record.sptes = page.entries;
  record.parents = static_cast<uint32_t>(vm.lists.Count(page.parents));
  record.unsync = page.unsync;
  return record;
}

void RecordLeaves(Vm& vm, TableIndex table, std::vector<LeafRecord>& leaves)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  const Level level = vm.arena.Page(table).role.level();
  for (unsigned i = 0; i < kEntriesPerTable; ++i) {
    const SpteRef ref(table, i);
    const Spte spte = vm.arena.Load(ref);
    if (spte.present() && spte.leaf(level)) {
      leaves.push_back(RecordLeaf(vm, ref, spte));
    }
  }
}

}  // namespace

MmuDump Dump(const Mmu& mmu) {
  Vm& vm = mmu.internals();
  MmuDump dump;
  dump.slots = mmu.Slots();
  const VmLock held(vm);
  dump.generation = vm.generations.mmu_valid_gen;
  for (TableIndex table = vm.pages.oldest(); table != TableIndex::kNil;
       table = vm.pages.Next(table)) {
    dump.pages.push_back(RecordPage(vm, table));
    RecordLeaves(vm, table, dump.leaves);
  }
  std::sort(dump.leaves.begin(), dump.leaves.end());
  return dump;
}

std::vector<RmapRecord> DumpRmap(const Mmu& mmu, AddressSpace space, Gfn gfn,
                                 Level level) {
  Vm& vm = mmu.internals();
  std::vector<RmapRecord> records;
  const VmLock held(vm);
  const Memslot* slot = vm.slot_table().Find(space, gfn);
  if (slot == nullptr) return records;
  const RmapHead* head =
      slot->rmaps->Head(gfn, level, vm.generations.arena_epoch);
  if (head == nullptr) return records;
  vm.lists.ForEach(*head, [&](SpteRef ref) {
    vm.lock.AssertHeld();
    const ShadowPage& page = vm.arena.Page(ref.table());
    records.push_back(
        {.page_gfn = page.gfn,
         .page_level = page.role.level(),
         .index = ref.index(),
         .obsolete = page.mmu_valid_gen != vm.generations.mmu_valid_gen});
  });
  return records;
}

std::ostream& operator<<(std::ostream& os, const LeafRecord& leaf) {
  os << leaf.space << " " << leaf.gfn << " " << leaf.level << " -> " << leaf.pfn
     << " " << (leaf.writable ? 'w' : '-') << (leaf.user ? 'u' : '-')
     << (leaf.executable ? 'x' : '-') << (leaf.accessed ? 'a' : '-')
     << (leaf.dirty ? 'd' : '-');
  if (leaf.key != 0) os << " key " << leaf.key;
  return os << (leaf.obsolete ? " obsolete" : "");
}

std::ostream& operator<<(std::ostream& os, const PageRecord& page) {
  return os << page.gfn << ", " << page.role << ", generation "
            << page.mmu_valid_gen << ", " << page.roots << " roots, "
            << page.parents << " parents, " << page.sptes << " entries"
            << (page.unsync ? ", unsync" : "");
}

std::ostream& operator<<(std::ostream& os, const MmuDump& dump) {
  os << "generation " << dump.generation << "\n";
  for (const SlotSpec& slot : dump.slots) os << slot << "\n";
  for (const PageRecord& page : dump.pages) os << "page " << page << "\n";
  for (const LeafRecord& leaf : dump.leaves) os << "leaf " << leaf << "\n";
  return os;
}

}  // namespace shadowmmu
