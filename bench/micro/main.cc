// shadowmmu_bench: what the library's operations cost, beside the limits of the
// machine (docs/benchmarks.md).

#include <benchmark/benchmark.h>

#include <iostream>
#include <string>
#include <string_view>

#include "bench/micro/meter.h"
#include "bench/micro/options.h"
#include "bench/micro/pin.h"
#include "bench/micro/registry.h"

namespace shadowmmu::bench {
namespace {

constexpr int kExitFailure = 1;
constexpr int kExitUsage = 2;

int Main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) == "--help") {
      PrintHelp();
      return 0;
    }
  }
  Options& options = TheOptions();
  const std::string wrong = TakeOptions(&argc, argv, &options);
  if (!wrong.empty()) {
    std::cerr << "shadowmmu_bench: " << wrong << " (see --help)\n";
    return kExitUsage;
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return kExitUsage;
  const int cpu = PinTo(options.cpu);
  if (cpu < 0) {
    std::cerr << "shadowmmu_bench: cannot stay on CPU " << options.cpu << "\n";
    return kExitUsage;
  }
  std::cerr << "On CPU " << cpu << "; instructions: " << InstructionSource()
            << "\n";
  benchmark::AddCustomContext("instructions", InstructionSource());
  benchmark::AddCustomContext("scale", options.small() ? "small" : "normal");

  // In the order in which they run: the limits first.
  RegisterLimits();
  RegisterDirect();
  RegisterIndirect();
  RegisterBump();
  RegisterDirtyLog();
  RegisterFaults();
  RegisterParallel();
  RegisterPrefetch();
  RegisterReleases();
  RegisterRoots();
  RegisterWriteTrack();
  RegisterSlots();
  RegisterSlotLoops();
  RegisterSweeps();
  RegisterStalls();
  RegisterChaseAgain();
  if (benchmark::RunSpecifiedBenchmarks() == 0) return kExitFailure;
  benchmark::Shutdown();
  return AnyFailed() ? kExitFailure : 0;
}

}  // namespace
}  // namespace shadowmmu::bench

int main(int argc, char** argv) { return shadowmmu::bench::Main(argc, argv); }
