#include "bench/micro/meter.h"

#include <time.h>

#include <algorithm>
#include <atomic>
#include <optional>

#include "bench/micro/callgrind.h"
#include "bench/micro/instructions.h"
#include "bench/micro/limits.h"
#include "bench/micro/options.h"

namespace shadowmmu::bench {
namespace {

std::atomic<bool> any_failed{false};

const InstructionCounter& Instructions() {
  static const InstructionCounter counter;
  return counter;
}

// Nanoseconds that this thread has had a CPU.
double ThreadTime() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e9 +
         static_cast<double>(time.tv_nsec);
}

// More runs where they are cheap, since they are noisier there.
uint32_t RunsFor(uint64_t items) {
  const Options& options = TheOptions();
  if (options.runs != 0) return options.runs;
  if (options.small()) return 1;
  return items >= (uint64_t{1} << 18) ? 5 : 15;
}

void Report(benchmark::State& state, uint64_t items, const Meter& first,
            const std::vector<Meter>& runs) {
  const auto count = static_cast<double>(items);
  std::vector<double> times;
  std::vector<double> off_cpu;
  std::vector<double> instructions;
  std::map<std::string, std::vector<double>> notes;
  for (const Meter& run : runs) {
    times.push_back(run.nanoseconds() / count);
    off_cpu.push_back(run.off_cpu() / (run.off_cpu() + run.nanoseconds()));
    instructions.push_back(static_cast<double>(run.instructions()) / count);
    for (const auto& [name, value] : run.notes()) notes[name].push_back(value);
  }
  const double median = Median(times);
  state.SetIterationTime(median * count * 1e-9);
  state.counters["ns"] = median;
  state.counters["min"] = *std::min_element(times.begin(), times.end());
  state.counters["max"] = *std::max_element(times.begin(), times.end());
  state.counters["first"] = first.nanoseconds() / count;
  state.counters["off_cpu"] = Median(off_cpu);
  state.counters["items"] = count;
  state.counters["runs"] = static_cast<double>(runs.size());
  if (const std::optional<double> latency = MissLatency()) {
    state.counters["L"] = *latency;
    state.counters["xL"] = median / *latency;
  }
  if (Instructions().available()) {
    state.counters["instr"] = Median(instructions);
  }
  for (auto& [name, values] : notes) state.counters[name] = Median(values);
}

}  // namespace

void Meter::Start() {
  instructions_before_ = Instructions().Read();
  cpu_before_ = ThreadTime();
  if (phase_ == Phase::kMeasured) StartCallgrind();
  started_ = Clock::now();
}

void Meter::Stop() {
  const Clock::time_point stopped = Clock::now();
  if (phase_ == Phase::kMeasured) StopCallgrind();
  // Of a longer interval than the wall clock's, so it is more where nobody else
  // ran.
  const double cpu = ThreadTime() - cpu_before_;
  instructions_ += Instructions().Read() - instructions_before_;
  const double wall =
      std::chrono::duration<double, std::nano>(stopped - started_).count();
  nanoseconds_ += std::min(wall, cpu);
  off_cpu_ += wall - std::min(wall, cpu);
}

void Measure(benchmark::State& state, uint64_t items, Run run) {
  MissLatency();  // measured now, if it never was
  for ([[maybe_unused]] auto iteration : state) {
    Meter first(Meter::Phase::kDropped);
    std::string wrong = run(first);
    std::vector<Meter> runs;
    for (uint32_t i = 0; i < RunsFor(items) && wrong.empty(); ++i) {
      wrong = run(runs.emplace_back(Meter::Phase::kMeasured));
    }
    if (!wrong.empty()) return Fail(state, wrong);
    Report(state, items, first, runs);
  }
}

void Fail(benchmark::State& state, const std::string& why) {
  any_failed.store(true);
  state.SkipWithError(why.c_str());
}

bool AnyFailed() { return any_failed.load(); }

std::string InstructionSource() {
  return Instructions().available() ? "counted by the CPU"
                                    : "not counted: " + Instructions().why();
}

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  if (values.size() % 2 == 1) return values[middle];
  return (values[middle - 1] + values[middle]) / 2;
}

}  // namespace shadowmmu::bench
