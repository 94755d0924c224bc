// SlotChurn: deletes a slot while the guest runs, and adds it again over the
// same memory at another host address.
//
// This is what a hypervisor does that remaps a part of the guest's memory: the
// guest is not told, its tables still lead there, and many sptes map the slot
// at the moment when it is deleted. After the deletion the old host addresses
// are unmapped: an spte that had survived would lead to nothing.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_BENCH_REPLAY_SLOT_CHURN_H_
#define SHADOWMMU_BENCH_REPLAY_SLOT_CHURN_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "bench/replay/checker.h"
#include "bench/replay/fault_log.h"
#include "bench/replay/machine.h"
#include "bench/replay/virtual_cpu.h"

namespace shadowmmu::replay {

// One replacement of a slot.
struct SlotChange {
  uint64_t at = 0;              // accesses run before it
  uint64_t mapped = 0;          // sptes of the VM, just before
  uint64_t mapped_in_slot = 0;  // of these, sptes that map the slot
  Machine::SlotTimes times;
  size_t window = 0;  // of the FaultLog
};

class SlotChurn {
 public:
  // None is owned; `checker` may be null.
  SlotChurn(Machine* machine, VirtualCpu* cpu, FaultLog* log, Checker* checker)
      : machine_(machine), cpu_(cpu), log_(log), checker_(checker) {}

  // Replaces the last slot. `now`: accesses run so far.
  absl::Status Replace(uint64_t now);

  const std::vector<SlotChange>& done() const { return done_; }

 private:
  Machine* const machine_;
  VirtualCpu* const cpu_;
  FaultLog* const log_;
  Checker* const checker_;
  std::vector<SlotChange> done_;
};

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_SLOT_CHURN_H_
