#include "src/mmu/fast_fault.h"

#include "src/mmu/roots.h"
#include "src/mmu/spte_write.h"

namespace shadowmmu {
namespace {

// The leaf that maps `gva` below the root; nil: none.
SpteRef FindLeaf(Vm& vm, const RootHandle& root, Gva gva)
    ABSL_SHARED_LOCKS_REQUIRED(vm.lock) {
  TableIndex table = root.For(gva);
  while (table != TableIndex::kNil) {
    ShadowPage& page = vm.arena.Page(table);
    page.NoteUse();
    const Level level = page.role.level();
    const SpteRef ref(table, IndexAt(gva, level));
    const Spte spte = vm.arena.Load(ref);
    if (!spte.present()) break;
    if (spte.leaf(level)) return ref;
    table = vm.arena.TableAt(vm.format.TableOf(spte));
  }
  return SpteRef();
}

}  // namespace

bool FastFault(Vm& vm, VcpuState& vcpu, Gva gva) {
  if (vcpu.root.empty()) return false;
  const SlotReader reader(vm.slots,
                          {.what = "a fast fault", .vcpu = ToInt(vcpu.id)});
  const SharedVmLock held(vm, ToInt(vcpu.id));
  if (!RootUsable(vm, vcpu.root)) return false;
  const SpteRef ref = FindLeaf(vm, vcpu.root, gva);
  if (ref.nil()) return false;
  if (!vm.arena.Load(ref).log_protected()) return false;
  const ShadowPage& page = vm.arena.Page(ref.table());
  if (page.unsync.load(std::memory_order_acquire)) return false;
  const Gfn gfn = vm.arena.GfnOf(ref);
  const Memslot* slot =
      vcpu.writer.slot_cache.Find(vm.slot_table(), page.role.space(), gfn);
  if (slot == nullptr || !slot->live() || slot->read_only()) return false;
  slot->MarkDirty(gfn);
  if (!LiftLogProtection(vm, ref)) return false;
  vcpu.fast_faults.Increment();
  return true;
}

}  // namespace shadowmmu
