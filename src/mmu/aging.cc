#include "src/mmu/aging.h"

#include "src/mmu/spte_sweep.h"

namespace shadowmmu {
bool AgeRange(Vm& vm, HvaRange hvas, Aging aging) {
  if (hvas.bytes == 0 || hvas.end() - 1 < hvas.begin) return false;
  VmLock held(vm);
  bool young = false;
  vm.slot_table().ForEachInHvaRange(hvas, [&](const Memslot& slot,
                                              GfnRange gfns) {
    vm.lock.AssertHeld();
    young |= aging == Aging::kClear ? ClearAccessedRange(vm, *slot.rmaps, gfns)
                                    : TestAccessedRange(vm, *slot.rmaps, gfns);
  });
  return young;
}

}  // namespace shadowmmu
