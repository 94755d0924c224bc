#include "bench/replay/fault_log.h"

namespace shadowmmu::replay {

void FaultLog::Note(Gva gva, const Access& access, const FaultOutcome& outcome,
                    Nanoseconds time) {
  totals_.all.Add(time);
  switch (outcome.kind) {
    case FaultOutcome::Kind::kResume: {
      const uint32_t owner =
          access.privilege == Privilege::kUser ? ToInt(process_) : kKernel;
      NoteFill(owner, gva, time);
      refills_.NoteFill(gva, access);
      return;
    }
    case FaultOutcome::Kind::kGuestFault:
      totals_.guest_faults.Add(time);
      return;
    case FaultOutcome::Kind::kEmulate:
      totals_.emulations.Add(time);
      return;
    default:
      return;
  }
}

void FaultLog::NoteFill(uint32_t owner, Gva gva, Nanoseconds time) {
  const auto window = static_cast<uint32_t>(windows_.size() - 1);
  const auto inserted =
      filled_[owner].try_emplace(gva.value() >> kPageShift, window);
  if (inserted.second) {
    totals_.first_fills.Add(time);
    return;
  }
  uint32_t& last = inserted.first->second;
  if (last == window) {
    totals_.repeats.Add(time);
    return;
  }
  last = window;
  totals_.refaults.Add(time);
  windows_.back().refaults.Add(time);
  refault_times_.Add(static_cast<uint64_t>(time.count()));
}

size_t FaultLog::OpenWindow(uint64_t now) {
  CloseWindow(now);
  refills_.ForgetAll();
  windows_.push_back(Window{.begin = now, .end = now, .refaults = {}});
  return windows_.size() - 1;
}

void FaultLog::CloseWindow(uint64_t now) { windows_.back().end = now; }

}  // namespace shadowmmu::replay
