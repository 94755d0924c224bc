#include "src/mmu/notifier.h"

#include <thread>

#include "src/mmu/flush.h"
#include "src/mmu/hva_walk.h"
#include "src/mmu/spte_sweep.h"

namespace shadowmmu {
namespace {

void DropPart(Vm& vm, HvaRange hvas, FlushObligation& flush)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  vm.slot_table().ForEachInHvaRange(hvas,
                                    [&](const Memslot& slot, GfnRange gfns) {
                                      vm.lock.AssertHeld();
                                      DropRange(vm, *slot.rmaps, gfns, flush);
                                    });
}

absl::Status CheckRange(HvaRange hvas) {
  if (hvas.bytes == 0) {
    return absl::InvalidArgumentError("hvas: an empty range");
  }
  if ((hvas.end() - 1) < hvas.begin) {
    return absl::InvalidArgumentError("hvas: the range wraps around");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status BeginInvalidation(Vm& vm, HvaRange hvas) {
  if (absl::Status range = CheckRange(hvas); !range.ok()) return range;
  vm.memory.Block(hvas);
  VmLock held(vm);
  FlushObligation flush;
  for (HvaWalk walk(hvas); !walk.done();) {
    DropPart(vm, walk.part(), flush);
    walk.Next(vm.slot_table());
    if (walk.done() || !vm.lock.Contended()) continue;
    flush.Pay(vm);
    ++vm.counters.lock_breaks;
    held.Break([] { std::this_thread::yield(); });
  }
  flush.Pay(vm);
  return absl::OkStatus();
}

absl::Status EndInvalidation(Vm& vm, HvaRange hvas) {
  if (absl::Status range = CheckRange(hvas); !range.ok()) return range;
  return vm.memory.Unblock(hvas);
}

}  // namespace shadowmmu
