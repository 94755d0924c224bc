#include "src/mmu/orphans.h"

#include <optional>
#include <span>

#include "src/mmu/guest_entry.h"
#include "src/mmu/guest_format.h"
#include "src/mmu/zap.h"

namespace shadowmmu {

void Orphans::Note(Vm& vm, SpteRef ref) {
  const Spte spte = vm.arena.Load(ref);
  if (count_ == child_.size() || !spte.present() ||
      spte.leaf(vm.arena.Page(ref.table()).role.level())) {
    return;
  }
  const TableIndex child = vm.arena.TableAt(vm.format.TableOf(spte));
  const std::optional<uint64_t> gpte = ReadGuestEntry(vm, ref);
  const bool named =
      !gpte || ((*gpte & pte::kPresent) != 0 &&
                GuestFormat::GfnOf(*gpte) == vm.arena.Page(child).gfn);
  if (!named) child_[count_++] = child;
}

void Orphans::Zap(Vm& vm) {
  ZapBatch batch;
  for (const TableIndex table : std::span(child_).first(count_)) {
    const ShadowPage& page = vm.arena.Page(table);
    // One may have been noted twice.
    if (page.state == PageState::kActive && page.parents.empty() &&
        page.root_count == 0) {
      batch.Zap(vm, table);
    }
  }
  count_ = 0;
  vm.counters.pages_unlinked += batch.zapped();
  batch.Commit(vm);
}

}  // namespace shadowmmu
