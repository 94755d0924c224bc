// What shadowmmu_bench was asked for, beside Google Benchmark's own options.
//
// Thread safety: set once, before anything is measured; constant afterwards.

#ifndef SHADOWMMU_BENCH_MICRO_OPTIONS_H_
#define SHADOWMMU_BENCH_MICRO_OPTIONS_H_

#include <cstdint>
#include <string>
#include <vector>

namespace shadowmmu::bench {

// How large the workloads are. kSmall shows that everything runs, and measures
// nothing that is worth keeping.
enum class Scale : uint8_t { kSmall, kNormal, kLarge };

struct Options {
  Scale scale = Scale::kNormal;
  // Measured runs of each benchmark; 0: as its size suggests. One more is done
  // before them, and dropped.
  uint32_t runs = 0;
  // The CPU to stay on; negative: the last of those that are allowed.
  int cpu = -1;

  // A new VM for each run, instead of one that is used again.
  bool fresh = false;

  bool small() const { return scale == Scale::kSmall; }
  // Pages (or sptes) of the workloads: 2^10, 2^14, ...
  std::vector<uint64_t> Sizes() const;
};

// Those of this process.
Options& TheOptions();

// Takes the options that are ours out of the arguments. What is wrong, in
// words; empty: nothing.
std::string TakeOptions(int* argc, char** argv, Options* options);

// Ours and Google Benchmark's, to standard output.
void PrintHelp();

}  // namespace shadowmmu::bench

#endif  // SHADOWMMU_BENCH_MICRO_OPTIONS_H_
