// ForkWorkload: a guest that forks, maps, unmaps and switches: the processes
// take turns, and at the end of a turn the one that ran may ask the kernel for
// something (process_calls.h).
//
//   residents     run from the boot to the end; map and unmap regions; fork
//   children      run with what their parent had (copy on write), exec or not,
//                 map and unmap regions, and exit after some turns
//
// Rules:
//  1. At most `processes` run at any moment: a quarter of them children, but at
//     least one, the others residents.
//  2. A switch goes to another process that can run, whichever it is. A parent
//     may wait for its child: it does not run before the child has exited.
//  3. Everything is chosen by the seed. What the library does has no influence
//     on it, nor has the time: two runs are the same guest.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_BENCH_REPLAY_FORK_WORKLOAD_H_
#define SHADOWMMU_BENCH_REPLAY_FORK_WORKLOAD_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "bench/replay/guest_kernel.h"
#include "bench/replay/process_calls.h"
#include "bench/replay/trace_access.h"
#include "tests/harness/choices.h"

namespace shadowmmu::replay {

class ForkWorkload {
 public:
  // What the processes run besides: the program of synthetic_program.h, or the
  // slices of a trace.
  enum class Program : uint8_t { kSynthetic, kTrace };
  struct Options {
    uint32_t processes = 4;  // at least 2
    uint64_t seed = 1;
    Program program = Program::kSynthetic;
  };
  // Plays accesses in the process that runs.
  using Play = absl::FunctionRef<absl::Status(std::span<const TraceAccess>)>;

  // `kernel` is not owned, and is not booted yet.
  ForkWorkload(const Options& options, GuestKernel* kernel);

  // As GuestKernel::Boot.
  absl::Status Boot();
  // Who runs next is chosen, and runs.
  absl::Status Switch();
  // The rest of its turn: it plays `slice` (or the program), works on its
  // regions, and asks for what it may ask for. Fails as ProcessCalls and
  // `play`.
  absl::Status RunTurn(std::span<const TraceAccess> slice, Play play);

  const ProcessCalls::Counts& calls() const { return calls_.counts(); }
  uint64_t maps() const { return maps_; }

 private:
  enum class State : uint8_t { kFree, kRuns, kWaits };
  // Places in a process's map area: one region fits into each.
  static constexpr size_t kRegions = 8;
  static constexpr uint64_t kMostPages = 64;

  struct Task {
    State state = State::kFree;
    ProcessId space{};
    uint64_t region[kRegions] = {};  // pages; 0: none
    // Of a child:
    bool is_child = false;
    size_t parent = 0;
    uint64_t turns_left = 0;
    uint64_t exec_at = 0;  // turns left then; 0: it does not
  };

  static uint32_t Children(uint32_t processes);
  size_t ChooseNext();
  Task* FindFree();

  absl::Status Call(Play play);
  absl::Status Fork();
  absl::Status Exec();
  absl::Status Exit();
  absl::Status Map(Play play);
  absl::Status Unmap();

  const Options options_;
  GuestKernel* const kernel_;
  ProcessCalls calls_;
  testing::Choices choices_;
  std::vector<Task> tasks_;
  size_t current_ = 0;
  bool just_switched_ = false;  // by the exit of who ran before
  uint64_t maps_ = 0;
};

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_FORK_WORKLOAD_H_
