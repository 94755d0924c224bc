#include "bench/micro/options.h"

#include <iostream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace shadowmmu::bench {
namespace {

constexpr uint32_t kMostRuns = 1000;

// --name=NUMBER. False: it is not that option.
bool TakeNumber(absl::string_view word, absl::string_view name, uint32_t least,
                uint32_t most, uint32_t* value, std::string* wrong) {
  if (!absl::ConsumePrefix(&word, name)) return false;
  if (!absl::SimpleAtoi(word, value) || *value < least || *value > most) {
    *wrong =
        absl::StrCat(name, word, ": not a number from ", least, " to ", most);
  }
  return true;
}

}  // namespace

std::vector<uint64_t> Options::Sizes() const {
  std::vector<uint64_t> sizes{uint64_t{1} << 10};
  if (small()) return sizes;
  for (const unsigned shift : {14, 18, 21}) {
    sizes.push_back(uint64_t{1} << shift);
  }
  if (scale == Scale::kLarge) sizes.push_back(uint64_t{1} << 23);
  return sizes;
}

Options& TheOptions() {
  static Options options;
  return options;
}

std::string TakeOptions(int* argc, char** argv, Options* options) {
  int kept = 1;
  bool small = false;
  bool large = false;
  std::string wrong;
  for (int i = 1; i < *argc; ++i) {
    const absl::string_view word = argv[i];
    uint32_t cpu = 0;
    if (word == "--small") {
      small = true;
    } else if (word == "--large") {
      large = true;
    } else if (word == "--fresh") {
      options->fresh = true;
    } else if (TakeNumber(word, "--cpu=", 0, 4095, &cpu, &wrong)) {
      options->cpu = static_cast<int>(cpu);
    } else if (!TakeNumber(word, "--runs=", 1, kMostRuns, &options->runs,
                           &wrong)) {
      argv[kept++] = argv[i];
    }
  }
  if (small && large) wrong = "--small and --large exclude each other";
  if (small) options->scale = Scale::kSmall;
  if (large) options->scale = Scale::kLarge;
  *argc = kept;
  argv[kept] = nullptr;
  return wrong;
}

void PrintHelp() {
  std::cout <<
      R"(shadowmmu_bench: what the library's operations cost (docs/benchmarks.md).

  shadowmmu_bench [--small | --large] [--runs=N] [--fresh] [--cpu=N]
                  [--benchmark_...]

  --small     2^10 pages, one run: shows that every benchmark runs
  --large     adds 2^23 pages
  --runs=N    measured runs of each benchmark (5 to 15, by size)
  --fresh     Direct/ and Indirect/: a new VM for each run, with memory that
              the host has not given yet, and pools that are in order
  --cpu=N     the CPU to stay on (the last one that is allowed)

  --benchmark_filter=REGEX         these only, as "^Direct/populate/"
  --benchmark_list_tests           their names
  --benchmark_out=FILE             the results as JSON, for bench/report
  and Google Benchmark's other options.
)";
}

}  // namespace shadowmmu::bench
