#include "src/mmu/aging.h"

#include "src/mmu/spte_write.h"

namespace shadowmmu {
namespace {

bool AgeSpte(Vm& vm, SpteRef ref, Aging aging)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  return aging == Aging::kClear ? ClearAccessed(vm, ref)
                                : vm.arena.Load(ref).accessed();
}

}  // namespace

bool AgeRange(Vm& vm, HvaRange hvas, Aging aging) {
  if (hvas.bytes == 0 || hvas.end() - 1 < hvas.begin) return false;
  VmLock held(vm);
  bool young = false;
  const auto age = [&](SpteRef ref) {
    vm.lock.AssertHeld();
    young |= AgeSpte(vm, ref, aging);
  };
  vm.slot_table().ForEachInHvaRange(
      hvas, [&](const Memslot& slot, GfnRange gfns) {
        vm.lock.AssertHeld();
        slot.rmaps->ForEachHead(gfns, vm.generations.arena_epoch,
                                [&](RmapHead& head, Gfn, Level) {
                                  vm.lock.AssertHeld();
                                  vm.lists.ForEach(head, age);
                                });
      });
  return young;
}

}  // namespace shadowmmu
