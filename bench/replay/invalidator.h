// Invalidator: makes all shadow pages go, in one of the library's ways, while a
// guest runs, and measures what each invalidation costs.
//
//   stall     how long no vCPU may be in the guest. zap_all, release: all of
//             Mmu::InvalidateAll. obsolete_walk: Mmu::BumpGeneration alone.
//   re-entry  from there until the vCPU is in the guest again, on a new root.
//   reclaim   obsolete_walk: all calls of Mmu::ReclaimObsolete, which run
//             between accesses, `budget` shadow pages each. Here the one vCPU
//             waits for each; on a host it would be another thread, and vCPUs
//             would wait only where they fault meanwhile. zap_all: none, it is
//             in the stall; release: none, nothing is walked.
//   refault   the faults of the window that follows (fault_log.h), which are
//             there only because of the invalidation.
//
// Clearing the CPU model's TLB is part of whatever orders it.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_BENCH_REPLAY_INVALIDATOR_H_
#define SHADOWMMU_BENCH_REPLAY_INVALIDATOR_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "bench/replay/checker.h"
#include "bench/replay/fault_log.h"
#include "bench/replay/peaks.h"
#include "bench/replay/samples.h"
#include "bench/replay/stop_watch.h"
#include "bench/replay/virtual_cpu.h"
#include "shadowmmu/mmu.h"

namespace shadowmmu::replay {

// One invalidation.
struct Invalidation {
  uint64_t at = 0;            // accesses run before it
  uint64_t mapped = 0;        // sptes that mapped guest memory, just before
  uint64_t shadow_pages = 0;  // tables, just before
  Nanoseconds stall{};
  Nanoseconds reentry{};
  Nanoseconds reclaim{};
  uint64_t reclaimed_pages = 0;
  size_t window = 0;  // of the FaultLog
};

class Invalidator {
 public:
  struct Options {
    Strategy strategy = Strategy::kObsoleteWalk;
    uint64_t reclaim_budget = 64;  // shadow pages a call, at least 1
  };

  // None is owned; `checker` may be null.
  Invalidator(const Options& options, Mmu* mmu, VirtualCpu* cpu, FaultLog* log,
              Peaks* peaks, Checker* checker)
      : options_(options),
        mmu_(mmu),
        cpu_(cpu),
        log_(log),
        peaks_(peaks),
        checker_(checker) {}

  // `now`: accesses run so far. What the last one left is reclaimed first, at
  // that one's expense. Internal: the audit found something, or the vCPU
  // cannot enter.
  absl::Status Invalidate(uint64_t now);
  // Are there obsolete pages left of the last invalidation?
  bool reclaiming() const { return reclaiming_; }
  // One call of ReclaimObsolete. Only while reclaiming().
  absl::Status ReclaimSome();
  // Reclaims what is left, in such calls, one after another.
  absl::Status ReclaimRest();

  const std::vector<Invalidation>& done() const { return done_; }
  // Nanoseconds of each call of ReclaimObsolete.
  const Samples& reclaim_calls() const { return reclaim_calls_; }

 private:
  const Options options_;
  Mmu* const mmu_;
  VirtualCpu* const cpu_;
  FaultLog* const log_;
  Peaks* const peaks_;
  Checker* const checker_;
  bool reclaiming_ = false;
  std::vector<Invalidation> done_;
  Samples reclaim_calls_;
};

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_INVALIDATOR_H_
