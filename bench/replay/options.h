// Options: what shadowmmu_replay was asked to do.

#ifndef SHADOWMMU_BENCH_REPLAY_OPTIONS_H_
#define SHADOWMMU_BENCH_REPLAY_OPTIONS_H_

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "bench/replay/trace_reader.h"
#include "shadowmmu/mmu.h"

namespace shadowmmu::replay {

struct Options {
  enum class Output : uint8_t { kTable, kJson };
  enum class Checking : uint8_t { kOff, kOn };
  // What the guest does (docs/replay.md).
  enum class Workload : uint8_t {
    kTrace,  // its processes play the trace
    kFork,   // they fork, map, unmap and switch; the trace only if one is named
  };
  // What to do at all.
  enum class Task : uint8_t { kReplay, kHelp, kSmoke };

  Task task = Task::kReplay;
  Workload workload = Workload::kTrace;
  uint64_t forks = 100;  // kFork, without a trace
  uint64_t seed = 1;     // kFork
  std::string trace;     // a file; empty: standard input
  TraceReader::Trailer trailer = TraceReader::Trailer::kRequired;
  uint64_t max_accesses = 0;  // of the trace; 0: all
  uint32_t processes = 0;     // 0: by the workload
  uint64_t slice = 20'000;    // accesses
  uint32_t slots = 4;
  uint64_t memory_mib = 0;  // of the guest; 0: by the number of processes
  uint32_t tables = 0;      // shadow pages; 0: by the guest's memory
  uint32_t previous_roots = kMaxPreviousRoots;  // MmuConfig's
  bool unsync = true;                           // MmuConfig's
  uint32_t write_flooding = MmuConfig().write_flooding;
  Strategy strategy = Strategy::kObsoleteWalk;
  SlotZapPolicy slot_zap = SlotZapPolicy::kAuto;
  uint64_t invalidate_every = 0;    // accesses run; 0: never
  uint64_t reclaim_budget = 64;     // shadow pages
  uint64_t reclaim_every = 10'000;  // accesses run
  uint64_t slot_churn = 0;          // accesses run; 0: never
  Output output = Output::kTable;
  Checking checking = Checking::kOff;

  bool HasTrace() const {
    return workload == Workload::kTrace || !trace.empty();
  }
  // What the 0s above stand for.
  uint32_t Processes() const;
  uint64_t GuestMib() const;
  uint32_t TableCapacity() const;
};

// The words after the program's name; "--name=value" and "--name value".
// InvalidArgument.
absl::StatusOr<Options> ParseOptions(std::span<const absl::string_view> words);

inline constexpr std::array kStrategies = {
    Strategy::kZapAll, Strategy::kObsoleteWalk, Strategy::kRelease};
absl::string_view NameOf(Strategy strategy);
inline constexpr std::array kSlotZapPolicies = {
    SlotZapPolicy::kAuto, SlotZapPolicy::kTargeted, SlotZapPolicy::kWalk,
    SlotZapPolicy::kRelease};
absl::string_view NameOf(Options::Workload workload);

// The part of --help that describes the options.
std::string OptionsHelp();

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_OPTIONS_H_
