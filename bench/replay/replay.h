// Replay: plays one trace in P processes of a virtual machine, with what the
// options ask for in between.
//
//   read a slice of the trace
//     for each process: load its CR3, play the slice
//       every N accesses: invalidate, reclaim a little, replace a slot
//
// The trace is read once, a slice at a time. Where the guest forks
// (fork_workload.h), a slice gives as many turns, whoever has them; and without
// a trace they go on until enough children have come and gone.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_BENCH_REPLAY_REPLAY_H_
#define SHADOWMMU_BENCH_REPLAY_REPLAY_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/replay/alarm.h"
#include "bench/replay/fork_workload.h"
#include "bench/replay/progress.h"
#include "bench/replay/results.h"

namespace shadowmmu::replay {

class Replay {
 public:
  // Makes the machine and boots its guest. As Machine::Create, GuestKernel.
  static absl::StatusOr<std::unique_ptr<Replay>> Create(const Options& options);
  Replay(const Replay&) = delete;
  Replay& operator=(const Replay&) = delete;

  // Once. `trace` is null if options.HasTrace() is false; `trace_bytes`: how
  // long it is, if that is known.
  // InvalidArgument, DataLoss, Unavailable: as TraceReader. ResourceExhausted:
  // too little memory or too few tables. Internal: a difference (Checker), or
  // what can only be a defect.
  absl::Status Run(TraceReader* trace, std::optional<uint64_t> trace_bytes,
                   Progress* progress);

  // After Run, whatever it returned.
  Results TakeResults(const TraceReader* trace) const;

 private:
  explicit Replay(const Options& options, std::unique_ptr<Machine> machine);

  absl::Status Boot() {
    return fork_.has_value() ? fork_->Boot()
                             : kernel_.Boot(options_.Processes());
  }
  absl::Status PlayTrace(TraceReader* trace,
                         std::optional<uint64_t> trace_bytes,
                         Progress* progress);
  absl::Status PlayForks(Progress* progress);
  absl::Status PlayTurn(uint32_t turn, std::span<const TraceAccess> slice);
  absl::Status PlaySlice(std::span<const TraceAccess> slice);
  absl::Status DoWhatIsDue();
  absl::Status Finish();
  void TakeCensus();
  uint64_t now() const { return player_.counts().accesses; }

  const Options options_;
  const std::unique_ptr<Machine> machine_;
  FaultLog log_;
  Peaks peaks_;
  std::optional<Checker> checker_;
  VirtualCpu cpu_;
  GuestKernel kernel_;
  std::optional<ForkWorkload> fork_;
  Player player_;
  Invalidator invalidator_;
  SlotChurn churn_;

  Alarm invalidate_;
  Alarm reclaim_;
  Alarm replace_slot_;
  Alarm census_;

  Nanoseconds time_{};
  Nanoseconds switch_time_{};
  uint64_t switches_ = 0;
  bool cut_ = false;  // by --max-accesses
  ChainCensus chains_;
  uint64_t differences_ = 0;
};

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_REPLAY_H_
