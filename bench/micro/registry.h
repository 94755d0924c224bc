// The benchmarks, by file: each registers its own, in the sizes that the
// options ask for. A new file adds its function here and to main.cc, and
// measures with Measure() (meter.h), or registers operations on a populated map
// by register_ops.h.

#ifndef SHADOWMMU_BENCH_MICRO_REGISTRY_H_
#define SHADOWMMU_BENCH_MICRO_REGISTRY_H_

#include <benchmark/benchmark.h>

#include <string>
#include <utility>

namespace shadowmmu::bench {

// Measure() repeats and times by itself: for Google Benchmark everything is one
// iteration, whose time we tell.
template <typename Function>
void Register(const std::string& name, Function function) {
  benchmark::RegisterBenchmark(name.c_str(), std::move(function))
      ->Iterations(1)
      ->UseManualTime();
}

void RegisterLimits();
void RegisterDirect();
void RegisterIndirect();
void RegisterBump();
void RegisterDirtyLog();
void RegisterFaults();
void RegisterParallel();
void RegisterPrefetch();
void RegisterReleases();
void RegisterRoots();
void RegisterSlots();
void RegisterSlotLoops();
void RegisterStalls();
void RegisterSweeps();
void RegisterWriteTrack();
// Once more at the end: how far L has moved meanwhile.
void RegisterChaseAgain();

}  // namespace shadowmmu::bench

#endif  // SHADOWMMU_BENCH_MICRO_REGISTRY_H_
