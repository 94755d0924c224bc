// Results: all that a replay has counted and measured.

#ifndef SHADOWMMU_BENCH_REPLAY_RESULTS_H_
#define SHADOWMMU_BENCH_REPLAY_RESULTS_H_

#include <cstdint>
#include <vector>

#include "bench/replay/chain_census.h"
#include "bench/replay/fault_log.h"
#include "bench/replay/guest_kernel.h"
#include "bench/replay/invalidator.h"
#include "bench/replay/kernel_memory.h"
#include "bench/replay/options.h"
#include "bench/replay/page_tables.h"
#include "bench/replay/peaks.h"
#include "bench/replay/player.h"
#include "bench/replay/process_calls.h"
#include "bench/replay/refill_book.h"
#include "bench/replay/samples.h"
#include "bench/replay/slot_churn.h"
#include "bench/replay/stop_watch.h"
#include "bench/replay/trace_reader.h"
#include "bench/replay/virtual_cpu.h"
#include "shadowmmu/stats.h"

namespace shadowmmu::replay {

struct Results {
  // How far the trace was played.
  enum class TraceEnd : uint8_t {
    kComplete,   // to its trailer
    kTruncated,  // to its end, which came too early
    kCut,        // to the access that --max-accesses names
    kNone,       // there is none
  };
  // One disruption, and the window of faults after it.
  struct Measured {
    Invalidation invalidation;
    FaultLog::Window window;
  };
  struct Replaced {
    SlotChange change;
    FaultLog::Window window;
  };

  Options options;
  TraceReader::Counts trace;
  TraceEnd trace_end = TraceEnd::kNone;

  Nanoseconds time{};         // of the replay, reading the trace included
  Nanoseconds switch_time{};  // of all switches from process to process
  uint64_t switches = 0;
  Player::Counts played;
  GuestKernel::Counts kernel;
  KernelMemory::Counts kernel_memory;
  PageTables::Counts guest_tables;
  ProcessCalls::Counts calls;
  uint64_t maps = 0;
  VirtualCpu::Counts cpu;
  RefillBook::Counts refills;
  uint64_t guest_frames = 0;  // in use
  uint64_t table_frames = 0;  // of these, that hold guest tables
  uint64_t walks = 0;         // of the shadow tables, by the CPU
  uint64_t entries = 0;       // of the vCPU into the guest
  uint64_t tlb_flushes = 0;   // asked for by the library

  FaultLog::Totals faults;
  Samples refault_times;  // ns
  Stats stats;            // at the end
  Peaks peaks;
  ChainCensus chains;
  std::vector<Measured> invalidations;
  Samples reclaim_calls;  // ns
  std::vector<Replaced> slot_changes;

  uint64_t checked_accesses = 0;
  uint64_t audits = 0;
  uint64_t differences = 0;
};

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_RESULTS_H_
