// Meter and Measure: how every benchmark here is timed.
//
//   Measure(state, items, [&](Meter& meter) -> std::string {
//     ... set up ...
//     meter.Start();
//     ... what is measured: `items` of it ...
//     meter.Stop();
//     ... see that it was really done: return what was not, in words ...
//     return "";
//   });
//
//  1. The function is run once and that run dropped, then as often as the
//     options say. Only what is between Start and Stop counts.
//  2. The counters of the benchmark are, per item: `ns` (the median of the
//     runs), `min` and `max`; `first`, the run that was dropped, on memory that
//     the host had not given yet; `xL`, `ns` as a multiple of L; `instr`, user
//     instructions, where the machine counts them. `L` itself, `items` and
//     `runs` are beside them. The benchmark's own time is the median of a run.
//  3. Time that the kernel gave to other processes meanwhile does not count;
//     `off_cpu` is its share. Nothing that is measured here sleeps.
//  4. A run that returns words fails the benchmark, and the process.
//  5. Under callgrind only the timed parts of the measured runs are
//     instrumented (start it with --instr-atstart=no).
//
// Thread safety: one thread.

#ifndef SHADOWMMU_BENCH_MICRO_METER_H_
#define SHADOWMMU_BENCH_MICRO_METER_H_

#include <benchmark/benchmark.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"

namespace shadowmmu::bench {

class Meter {
 public:
  enum class Phase : uint8_t { kDropped, kMeasured };
  explicit Meter(Phase phase) : phase_(phase) {}

  // A run may have several timed parts; they add up.
  void Start();
  void Stop();
  // Another number of this run; its median over the runs becomes a counter.
  void Note(const std::string& name, double value) { notes_[name] = value; }

  double nanoseconds() const { return nanoseconds_; }
  // What was taken off for other processes.
  double off_cpu() const { return off_cpu_; }
  uint64_t instructions() const { return instructions_; }
  const std::map<std::string, double>& notes() const { return notes_; }

 private:
  using Clock = std::chrono::steady_clock;

  const Phase phase_;
  Clock::time_point started_;
  uint64_t instructions_before_ = 0;
  double cpu_before_ = 0;
  double nanoseconds_ = 0;
  double off_cpu_ = 0;
  uint64_t instructions_ = 0;
  std::map<std::string, double> notes_;
};

using Run = absl::FunctionRef<std::string(Meter& meter)>;
void Measure(benchmark::State& state, uint64_t items, Run run);

// Ends the benchmark with an error, and makes the process fail.
void Fail(benchmark::State& state, const std::string& why);
// Whether any benchmark of this process failed.
bool AnyFailed();

// What instructions are counted by, or why they are not.
std::string InstructionSource();

double Median(std::vector<double> values);

}  // namespace shadowmmu::bench

#endif  // SHADOWMMU_BENCH_MICRO_METER_H_
