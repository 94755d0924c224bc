// shadowmmu_replay --workload=fork: what its numbers come to, whatever the
// times are.

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <sstream>
#include <string>

#include "bench/replay/replay.h"
#include "bench/replay/smoke.h"

namespace shadowmmu::replay {
namespace {

Options Forks(uint64_t forks) {
  Options options;
  options.workload = Options::Workload::kFork;
  options.forks = forks;
  return options;
}

Results Played(const Options& options, const std::string& text = "") {
  absl::StatusOr<std::unique_ptr<Replay>> replay = Replay::Create(options);
  EXPECT_TRUE(replay.ok()) << replay.status();
  std::istringstream in(text);
  TraceReader reader(&in, TraceReader::Trailer::kRequired);
  TraceReader* const trace = options.HasTrace() ? &reader : nullptr;
  Progress progress(Progress::Where::kNowhere);
  const absl::Status played = (*replay)->Run(trace, std::nullopt, &progress);
  EXPECT_TRUE(played.ok()) << played;
  return (*replay)->TakeResults(trace);
}

// What the guest did, and not what that cost.
std::string GuestOf(const Results& r) {
  std::ostringstream text;
  text << r.played.accesses << " " << r.kernel.page_faults << " "
       << r.kernel.copies << " " << r.kernel_memory.entry_stores() << " "
       << r.kernel_memory.frames_reused << " " << r.calls.forks << " "
       << r.calls.execs << " " << r.calls.unmaps << " " << r.maps << " "
       << r.cpu.cr3_switches << " " << r.cpu.cr3_reloads << " "
       << r.cpu.invlpgs;
  return text.str();
}

TEST(ForkWorkloadTest, DoesAllThatAGuestDoesAndTheOracleAgrees) {
  Options options = Forks(6);
  options.checking = Options::Checking::kOn;
  const Results results = Played(options);
  EXPECT_EQ(results.differences, 0u);
  EXPECT_GT(results.checked_accesses, results.played.accesses);
  EXPECT_GE(results.calls.forks, 6u);
  EXPECT_EQ(results.calls.exits, 6u);
  EXPECT_GT(results.calls.execs, 0u);
  EXPECT_GT(results.calls.unmaps, 0u);
  EXPECT_GT(results.maps, 0u);
  EXPECT_GT(results.kernel.copies, 0u);
  EXPECT_GT(results.kernel.reuses, 0u);
  EXPECT_GT(results.guest_tables.freed, 0u);
  EXPECT_GT(results.kernel_memory.frames_reused, 0u);
  EXPECT_GT(results.cpu.cr3_reloads, 0u);
  EXPECT_GT(results.cpu.invlpgs, 0u);
  EXPECT_EQ(results.trace_end, Results::TraceEnd::kNone);
}

TEST(ForkWorkloadTest, WithFourProcessesTheRootsAreKeptAndNothingIsRefilled) {
  const Results results = Played(Forks(10));
  EXPECT_GT(results.cpu.cr3_switches, 400u);
  EXPECT_GE(results.stats.root_cache_hits * 10, results.cpu.cr3_switches * 9);
  EXPECT_EQ(results.refills.after_switch, 0u);
}

TEST(ForkWorkloadTest, WithoutARootCacheNoSwitchHits) {
  Options options = Forks(3);
  options.previous_roots = 0;
  const Results results = Played(options);
  EXPECT_GT(results.cpu.cr3_switches, 0u);
  EXPECT_EQ(results.stats.root_cache_hits, 0u);
}

TEST(ForkWorkloadTest, TheGuestIsTheSameWhateverTheLibraryIsTold) {
  const Results results = Played(Forks(3));
  Options options = Forks(3);
  EXPECT_EQ(GuestOf(Played(options)), GuestOf(results));
  options.unsync = false;
  options.previous_roots = 0;
  const Results plain = Played(options);
  EXPECT_EQ(GuestOf(plain), GuestOf(results));
  EXPECT_GE(plain.kernel_memory.write_exits(),
            results.kernel_memory.write_exits());
  options.seed = 2;
  EXPECT_NE(GuestOf(Played(options)), GuestOf(results));
}

// Counts, and no times: the same on every machine.
TEST(ForkWorkloadTest, UnsyncSavesNineExitsOfTen) {
  Options options = Forks(5);
  const KernelMemory::Counts with = Played(options).kernel_memory;
  options.unsync = false;
  const KernelMemory::Counts without = Played(options).kernel_memory;
  EXPECT_EQ(with.entry_stores(), without.entry_stores());
  EXPECT_LE(with.write_exits() * 10, without.write_exits());
}

TEST(ForkWorkloadTest, WithoutUnsyncEveryEditOfAShadowedTableIsAnExit) {
  Options options = Forks(3);
  options.unsync = false;
  const KernelMemory::Counts counts = Played(options).kernel_memory;
  // Some fault only: write flooding has taken the table's shadow pages away.
  EXPECT_GT(counts.emulated_stores, 10 * counts.write_faults);
}

TEST(ForkWorkloadTest, WithoutUnsyncWriteFloodingSavesExitsAndCostsRefills) {
  Options options = Forks(3);
  options.unsync = false;
  const Results flooded = Played(options);
  options.write_flooding = 0;
  const Results protected_only = Played(options);
  EXPECT_EQ(GuestOf(flooded), GuestOf(protected_only));
  EXPECT_LT(flooded.kernel_memory.write_exits(),
            protected_only.kernel_memory.write_exits());
  EXPECT_EQ(protected_only.stats.pages_flooded, 0u);
  EXPECT_GT(flooded.stats.pages_flooded, 0u);
}

TEST(ForkWorkloadTest, TwoProcessesAreEnoughAndManyHaveSeveralChildren) {
  Options options = Forks(4);
  options.checking = Options::Checking::kOn;
  options.processes = 2;
  EXPECT_EQ(Played(options).calls.exits, 4u);
  options.processes = 9;
  EXPECT_EQ(Played(options).calls.exits, 4u);
}

TEST(ForkWorkloadTest, ATraceIsPlayedBetweenTheCalls) {
  Options options = Forks(1);
  options.trace = "given";
  options.checking = Options::Checking::kOn;
  options.slice = 10;
  options.invalidate_every = 900;
  options.slot_churn = 2'000;
  const Results results = Played(options, SyntheticTrace(40));
  EXPECT_EQ(results.trace_end, Results::TraceEnd::kComplete);
  EXPECT_GT(results.played.accesses,
            results.trace.accesses() * options.Processes());
  EXPECT_GT(results.calls.exits, 0u);
  EXPECT_GT(results.invalidations.size(), 0u);
  EXPECT_GT(results.slot_changes.size(), 0u);
}

}  // namespace
}  // namespace shadowmmu::replay
