#include "bench/replay/replay.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

namespace shadowmmu::replay {
namespace {

constexpr uint64_t kPagesPerMib = (uint64_t{1} << 20) / kPageSize;

Machine::Options MachineOptions(const Options& options) {
  const uint64_t pages = options.GuestMib() * kPagesPerMib;
  return {.slots = options.slots,
          .pages_per_slot = (pages + options.slots - 1) / options.slots,
          .table_capacity = options.TableCapacity(),
          .previous_roots = options.previous_roots,
          .unsync = options.unsync,
          .write_flooding = options.write_flooding,
          .slot_zap = options.slot_zap};
}

std::optional<Checker> MakeChecker(const Options& options,
                                   const Machine* machine) {
  if (options.checking == Options::Checking::kOff) return std::nullopt;
  return Checker(machine);
}

bool Forks(const Options& options) {
  return options.workload == Options::Workload::kFork;
}

std::optional<ForkWorkload> MakeForkWorkload(const Options& options,
                                             GuestKernel* kernel) {
  if (!Forks(options)) return std::nullopt;
  return std::make_optional<ForkWorkload>(
      ForkWorkload::Options{.processes = options.Processes(),
                            .seed = options.seed,
                            .program = options.HasTrace()
                                           ? ForkWorkload::Program::kTrace
                                           : ForkWorkload::Program::kSynthetic},
      kernel);
}

Checker* PointerTo(std::optional<Checker>& checker) {
  return checker.has_value() ? &*checker : nullptr;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Replay>> Replay::Create(const Options& options) {
  absl::StatusOr<std::unique_ptr<Machine>> machine =
      Machine::Create(MachineOptions(options));
  if (!machine.ok()) return machine.status();
  std::unique_ptr<Replay> replay(new Replay(options, *std::move(machine)));
  if (absl::Status booted = replay->Boot(); !booted.ok()) return booted;
  return replay;
}

Replay::Replay(const Options& options, std::unique_ptr<Machine> machine)
    : options_(options),
      machine_(std::move(machine)),
      checker_(MakeChecker(options, machine_.get())),
      cpu_(machine_.get(), &log_, PointerTo(checker_)),
      kernel_(machine_.get(), &cpu_, &log_,
              Forks(options) ? GuestKernel::FaultAround::kLinux
                             : GuestKernel::FaultAround::kOne),
      fork_(MakeForkWorkload(options, &kernel_)),
      player_(
          &cpu_, &kernel_,
          checker_.has_value() ? Player::Mode::kChecked : Player::Mode::kFast),
      invalidator_({.strategy = options.strategy,
                    .reclaim_budget = options.reclaim_budget},
                   &machine_->mmu(), &cpu_, &log_, &peaks_,
                   PointerTo(checker_)),
      churn_(machine_.get(), &cpu_, &log_, PointerTo(checker_)),
      invalidate_(options.invalidate_every, options.invalidate_every),
      reclaim_(options.reclaim_every, options.reclaim_every),
      replace_slot_(options.slot_churn, options.slot_churn),
      // Half way between two invalidations, far from what is measured.
      census_(options.invalidate_every, options.invalidate_every / 2) {}

absl::Status Replay::Run(TraceReader* trace,
                         std::optional<uint64_t> trace_bytes,
                         Progress* progress) {
  const StopWatch watch;
  absl::Status played = options_.HasTrace()
                            ? PlayTrace(trace, trace_bytes, progress)
                            : PlayForks(progress);
  time_ = watch.elapsed();
  progress->Clear();
  if (played.ok()) played = Finish();
  cpu_.Leave();
  log_.CloseWindow(now());
  if (absl::IsInternal(played)) ++differences_;
  return played;
}

absl::Status Replay::PlayTrace(TraceReader* trace,
                               std::optional<uint64_t> trace_bytes,
                               Progress* progress) {
  std::vector<TraceAccess> buffer(options_.slice);
  uint64_t left = options_.max_accesses != 0
                      ? options_.max_accesses
                      : std::numeric_limits<uint64_t>::max();
  while (left != 0) {
    const std::span<TraceAccess> room(buffer.data(),
                                      std::min<uint64_t>(left, buffer.size()));
    const absl::StatusOr<size_t> got = trace->Read(room);
    if (!got.ok()) return got.status();
    if (*got == 0) return absl::OkStatus();
    left -= *got;
    for (uint32_t i = 0; i < options_.Processes(); ++i) {
      absl::Status done = PlayTurn(i, room.first(*got));
      if (!done.ok()) return done;
      std::optional<double> fraction;
      if (trace_bytes.has_value() && *trace_bytes != 0) {
        fraction = static_cast<double>(trace->counts().bytes) /
                   static_cast<double>(*trace_bytes);
      }
      if (options_.max_accesses != 0) {
        fraction = std::max(fraction.value_or(0),
                            static_cast<double>(trace->counts().accesses()) /
                                static_cast<double>(options_.max_accesses));
      }
      progress->Show(fraction, now());
    }
  }
  cut_ = true;
  return absl::OkStatus();
}

absl::Status Replay::PlayForks(Progress* progress) {
  while (fork_->calls().exits < options_.forks) {
    if (absl::Status done = PlayTurn(0, {}); !done.ok()) return done;
    progress->Show(static_cast<double>(fork_->calls().exits) /
                       static_cast<double>(options_.forks),
                   now());
  }
  return absl::OkStatus();
}

// `turn`: of those that go with one slice.
absl::Status Replay::PlayTurn(uint32_t turn,
                              std::span<const TraceAccess> slice) {
  const StopWatch watch;
  absl::Status done =
      fork_.has_value() ? fork_->Switch() : kernel_.SwitchTo(ProcessId{turn});
  if (done.ok()) done = cpu_.Enter();
  switch_time_ += watch.elapsed();
  ++switches_;
  if (!done.ok()) return done;
  if (!fork_.has_value()) return PlaySlice(slice);
  return fork_->RunTurn(slice, [this](std::span<const TraceAccess> part) {
    return PlaySlice(part);
  });
}

absl::Status Replay::PlaySlice(std::span<const TraceAccess> slice) {
  while (!slice.empty()) {
    const uint64_t reclaim = invalidator_.reclaiming()
                                 ? reclaim_.next()
                                 : std::numeric_limits<uint64_t>::max();
    const uint64_t next = std::min(
        {invalidate_.next(), replace_slot_.next(), census_.next(), reclaim});
    const uint64_t part = std::min<uint64_t>(slice.size(), next - now());
    absl::Status done = player_.Play(slice.first(part));
    if (done.ok()) done = DoWhatIsDue();
    if (!done.ok()) return done;
    slice = slice.subspan(part);
  }
  return absl::OkStatus();
}

absl::Status Replay::DoWhatIsDue() {
  if (invalidator_.reclaiming() && reclaim_.Rings(now())) {
    if (absl::Status done = invalidator_.ReclaimSome(); !done.ok()) return done;
  }
  if (census_.Rings(now())) TakeCensus();
  if (invalidate_.Rings(now())) {
    if (absl::Status done = invalidator_.Invalidate(now()); !done.ok()) {
      return done;
    }
    reclaim_ = Alarm(options_.reclaim_every, now() + options_.reclaim_every);
  }
  if (replace_slot_.Rings(now())) {
    if (absl::Status done = invalidator_.ReclaimRest(); !done.ok()) return done;
    return churn_.Replace(now());
  }
  return absl::OkStatus();
}

absl::Status Replay::Finish() {
  if (absl::Status done = invalidator_.ReclaimRest(); !done.ok()) return done;
  TakeCensus();
  if (!checker_.has_value()) return absl::OkStatus();
  return checker_->CheckLibrary(machine_->mmu(), "the end");
}

// Keeps the census with the most sptes.
void Replay::TakeCensus() {
  cpu_.Leave();
  peaks_.Note(machine_->mmu().GetStats());
  ChainCensus census =
      ChainCensus::Take(machine_->mmu(), kernel_.frames().AllocatedRanges());
  if (census.sptes() >= chains_.sptes()) chains_ = std::move(census);
}

Results Replay::TakeResults(const TraceReader* trace) const {
  Results results;
  results.options = options_;
  if (trace != nullptr) {
    results.trace = trace->counts();
    results.trace_end = cut_                ? Results::TraceEnd::kCut
                        : trace->complete() ? Results::TraceEnd::kComplete
                                            : Results::TraceEnd::kTruncated;
  }
  results.time = time_;
  results.switch_time = switch_time_;
  results.switches = switches_;
  results.played = player_.counts();
  results.kernel = kernel_.counts();
  results.kernel_memory = kernel_.memory().counts();
  results.guest_tables = kernel_.tables().counts();
  results.guest_frames = kernel_.frames().allocated();
  results.table_frames = kernel_.table_frames();
  if (fork_.has_value()) {
    results.calls = fork_->calls();
    results.maps = fork_->maps();
  }
  results.cpu = cpu_.counts();
  results.refills = log_.refills().counts();
  results.walks = machine_->cpu().walks();
  results.entries = cpu_.entries();
  results.tlb_flushes = machine_->host().flushes();
  results.faults = log_.totals();
  results.refault_times = log_.refault_times();
  results.stats = machine_->mmu().GetStats();
  results.peaks = peaks_;
  results.peaks.Note(results.stats);
  results.chains = chains_;
  for (const Invalidation& one : invalidator_.done()) {
    results.invalidations.push_back({one, log_.window(one.window)});
  }
  results.reclaim_calls = invalidator_.reclaim_calls();
  for (const SlotChange& one : churn_.done()) {
    results.slot_changes.push_back({one, log_.window(one.window)});
  }
  if (checker_.has_value()) {
    results.checked_accesses = checker_->accesses();
    results.audits = checker_->audits();
  }
  results.differences = differences_;
  return results;
}

}  // namespace shadowmmu::replay
