// shadowmmu_stress: a VM under everything at once, with as many threads as you
// like, for as long as you like (tests/harness/busy_vm.h says what they do). It
// is built under a sanitizer, by scripts/soak.
//
//   shadowmmu_stress --seconds 60 --threads 8 --seed 1
//
// Two thirds of the threads are vCPUs. Rounds of some seconds follow each
// other, each with a new VM of other modes, sizes and prefetch; when a round is
// over, and all is quiet, the audit looks. Exits with 1, and the seed of the
// round, if anything was found.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <iostream>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "tests/harness/busy_vm.h"

namespace shadowmmu::testing {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kExitFound = 1;
constexpr int kExitUsage = 2;
constexpr uint64_t kMostThreads = 16;
constexpr auto kRound = std::chrono::seconds(5);

struct Options {
  uint64_t seconds = 10;
  uint64_t threads = 8;  // 4 to kMostThreads
  uint64_t seed = 1;
};

int Usage() {
  std::cerr << "usage: shadowmmu_stress [--seconds N] [--threads 4..16] "
               "[--seed N]\n";
  return kExitUsage;
}

std::optional<Options> Parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view name = argv[i];
    uint64_t* const value = name == "--seconds"   ? &options.seconds
                            : name == "--threads" ? &options.threads
                            : name == "--seed"    ? &options.seed
                                                  : nullptr;
    if (value == nullptr || !absl::SimpleAtoi(argv[i + 1], value)) {
      return std::nullopt;
    }
  }
  const bool good =
      argc % 2 == 1 && options.threads >= 4 && options.threads <= kMostThreads;
  return good ? std::optional(options) : std::nullopt;
}

struct Outcome {
  std::string wrong;
  uint64_t hits = 0;
  Stats stats;
};

BusyVm::Options VmOf(uint64_t round, unsigned vcpus) {
  constexpr uint32_t kCapacities[] = {128, 256, 2048};
  return {
      .vcpus = vcpus,
      .modes = round % 2 == 0 ? BusyVm::Modes::kAlike : BusyVm::Modes::kMixed,
      .table_capacity = kCapacities[round % 3],
      .prefetch = round % 4 < 2 ? 0u : 8u};
}

Outcome RunRound(uint64_t round, uint64_t seed, uint64_t threads,
                 Clock::time_point until) {
  const auto vcpus = static_cast<unsigned>(threads * 2 / 3);
  BusyVm vm(VmOf(round, vcpus));
  std::vector<std::thread> running;
  for (unsigned i = 0; i < threads; ++i) {
    running.emplace_back([&, i] {
      Rng rng(seed * kMostThreads + i);
      // Until all is over, or somebody found something: a look every few steps.
      for (uint64_t step = 0;
           step % 64 != 0 || (Clock::now() < until && vm.wrong().empty());
           ++step) {
        if (i < vcpus) {
          vm.StepVcpu(i, rng);
        } else {
          vm.StepOther(rng);
        }
      }
    });
  }
  for (std::thread& thread : running) thread.join();
  Outcome outcome{
      .wrong = vm.wrong(), .hits = vm.hits(), .stats = vm.mmu().GetStats()};
  if (outcome.wrong.empty()) outcome.wrong = vm.small().Violations();
  if (outcome.wrong.empty() && outcome.hits == 0) {
    outcome.wrong = "the guest got nowhere";
  }
  return outcome;
}

int Main(int argc, char** argv) {
  const std::optional<Options> options = Parse(argc, argv);
  if (!options) return Usage();
  const Clock::time_point end =
      Clock::now() + std::chrono::seconds(options->seconds);
  uint64_t hits = 0;
  uint64_t faults = 0;
  uint64_t round = 0;
  // No round is cut short but the first: in a moment nobody gets anywhere.
  for (; round == 0 || Clock::now() + kRound <= end; ++round) {
    const uint64_t seed = options->seed + round;
    const Outcome outcome = RunRound(round, seed, options->threads,
                                     std::min(end, Clock::now() + kRound));
    hits += outcome.hits;
    faults += outcome.stats.faults;
    if (!outcome.wrong.empty()) {
      std::cout << "FOUND in round " << round << ", seed " << seed << ":\n"
                << outcome.wrong << std::endl;
      return kExitFound;
    }
    std::cout << "round " << round << ": " << outcome.hits << " accesses, "
              << outcome.stats.faults << " faults, "
              << outcome.stats.pages_zapped << " pages zapped, "
              << outcome.stats.unsyncs << " unsyncs" << std::endl;
  }
  std::cout << round << " rounds with " << options->threads << " threads, "
            << hits << " accesses, " << faults << " faults: nothing found\n";
  return 0;
}

}  // namespace
}  // namespace shadowmmu::testing

int main(int argc, char** argv) { return shadowmmu::testing::Main(argc, argv); }
