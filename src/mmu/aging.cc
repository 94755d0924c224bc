#include "src/mmu/aging.h"

#include "src/base/thread_number.h"
#include "src/mmu/hva_walk.h"
#include "src/mmu/spte_sweep.h"

namespace shadowmmu {
namespace {

bool AgePart(Vm& vm, HvaRange hvas, Aging aging)
    ABSL_SHARED_LOCKS_REQUIRED(vm.lock) {
  bool young = false;
  vm.slot_table().ForEachInHvaRange(hvas, [&](const Memslot& slot,
                                              GfnRange gfns) {
    vm.lock.AssertReaderHeld();
    young |= aging == Aging::kClear ? ClearAccessedRange(vm, *slot.rmaps, gfns)
                                    : TestAccessedRange(vm, *slot.rmaps, gfns);
  });
  return young;
}

}  // namespace

bool AgeRange(Vm& vm, HvaRange hvas, Aging aging) {
  if (hvas.bytes == 0 || hvas.end() - 1 < hvas.begin) return false;
  bool young = false;
  for (HvaWalk walk(hvas); !walk.done();) {
    const SlotReader reader(vm.slots, {.what = "aging"});
    const SharedVmLock held(vm, ThreadNumber());
    young |= AgePart(vm, walk.part(), aging);
    walk.Next(vm.slot_table());
  }
  return young;
}

}  // namespace shadowmmu
