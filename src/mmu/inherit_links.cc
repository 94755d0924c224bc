#include "src/mmu/inherit_links.h"

#include <optional>

#include "src/mmu/guest_entry.h"
#include "src/mmu/spte_write.h"
#include "src/mmu/unsync_marks.h"

namespace shadowmmu {
namespace {

// Rule 1: does entry `ref` lead to `child`?
bool LeadsTo(Vm& vm, const GuestFormat& format, SpteRef ref, TableIndex child)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  const std::optional<uint64_t> gpte = ReadGuestEntry(vm, ref);
  if (!gpte) return false;
  const PageRole role = vm.arena.Page(ref.table()).role;
  const Level level = role.level();
  const uint64_t reserved = format.ReservedBitsSet(*gpte, level);
  if (!GuestFormat::UsableAsItIs(*gpte, reserved) ||
      format.IsLeaf(*gpte, level)) {
    return false;
  }
  const ShadowPage& page = vm.arena.Page(child);
  return page.gfn == GuestFormat::GfnOf(*gpte) &&
         page.role ==
             role.IndirectChild(role.rights() & GuestFormat::RightsOf(*gpte),
                                QuadrantOfChild(role, ref.index()));
}

}  // namespace

uint32_t InheritLinks(Vm& vm, Writer& writer, const GuestFormat& format,
                      TableIndex from, TableIndex to, uint32_t most) {
  const ShadowPage& left = vm.arena.Page(from);
  if (left.role != vm.arena.Page(to).role) return 0;
  uint32_t linked = 0;
  unsigned to_see = left.entries;
  for (unsigned i = 0; to_see != 0 && linked != most; ++i) {
    const Spte spte = vm.arena.Load(SpteRef(from, i));
    if (!spte.present()) continue;
    --to_see;
    if (spte.leaf(left.role.level())) continue;
    const TableIndex child = vm.arena.TableAt(vm.format.TableOf(spte));
    const SpteRef ref(to, i);
    if (OutOfStep(vm, child) || !LeadsTo(vm, format, ref, child)) continue;
    LinkTable(vm, writer, ref, child);
    ++linked;
  }
  vm.counters.links_inherited += linked;
  return linked;
}

}  // namespace shadowmmu
