#include "bench/replay/slot_churn.h"

#include <algorithm>

#include "absl/status/statusor.h"
#include "shadowmmu/dump.h"

namespace shadowmmu::replay {

absl::Status SlotChurn::Replace(uint64_t now) {
  cpu_->Leave();
  const SlotSpec slot = machine_->slots().back();
  const MmuDump dump = Dump(machine_->mmu());
  const auto in_slot = std::count_if(dump.leaves.begin(), dump.leaves.end(),
                                     [&slot](const LeafRecord& leaf) {
                                       return slot.gfns().Contains(leaf.gfn);
                                     });
  SlotChange change{.at = now,
                    .mapped = dump.leaves.size(),
                    .mapped_in_slot = static_cast<uint64_t>(in_slot),
                    .times = {},
                    .window = log_->OpenWindow(now)};
  const absl::StatusOr<Machine::SlotTimes> times =
      machine_->ReplaceSlot(slot.id);
  if (!times.ok()) return times.status();
  change.times = *times;
  done_.push_back(change);
  if (checker_ == nullptr) return absl::OkStatus();
  return checker_->CheckLibrary(machine_->mmu(), "a slot's replacement");
}

}  // namespace shadowmmu::replay
