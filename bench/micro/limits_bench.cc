// Limits/...: what this machine can do at best.

#include <benchmark/benchmark.h>

#include <atomic>
#include <string>
#include <thread>

#include "bench/micro/limits.h"
#include "bench/micro/meter.h"
#include "bench/micro/options.h"
#include "bench/micro/pin.h"
#include "bench/micro/registry.h"

namespace shadowmmu::bench {
namespace {

uint64_t Steps() { return uint64_t{1} << (TheOptions().small() ? 14 : 21); }

void ChaseBench(benchmark::State& state) {
  HugeMemory memory(LimitBytes());
  Chase chase(memory);
  const uint64_t steps = Steps();
  Measure(state, steps, [&](Meter& meter) -> std::string {
    meter.Start();
    chase.Step(steps);
    meter.Stop();
    return "";
  });
}

void RandomUpdate(benchmark::State& state) {
  HugeMemory memory(LimitBytes());
  const uint64_t updates = 4 * Steps();
  uint64_t seed = 0;
  uint64_t* const words = memory.as<uint64_t>();
  for (size_t i = 0; i < memory.bytes() / sizeof(*words); ++i) words[i] = 1;
  Measure(state, updates, [&](Meter& meter) -> std::string {
    meter.Start();
    const uint64_t sum = UpdateAtRandom(memory, ++seed, updates);
    meter.Stop();
    return sum >= updates ? "" : "words were not read";
  });
}

void Sequential(benchmark::State& state) {
  HugeMemory memory(LimitBytes());
  uint64_t* const words = memory.as<uint64_t>();
  const size_t count = memory.bytes() / sizeof(*words);
  for (size_t i = 0; i < count; ++i) words[i] = 1;
  Measure(state, count, [&](Meter& meter) -> std::string {
    meter.Start();
    const uint64_t sum = ReadAll(memory);
    meter.Stop();
    meter.Note("GB_per_s",
               static_cast<double>(memory.bytes()) / meter.nanoseconds());
    return sum == count ? "" : "words were not read";
  });
}

// A line that nobody shares, or that another CPU wants as well.
struct alignas(64) SharedLine {
  std::atomic<uint64_t> word{0};
};

template <typename Update>
void Atomic(benchmark::State& state, Update update) {
  const uint64_t updates = Steps();
  SharedLine line;
  Measure(state, updates, [&](Meter& meter) -> std::string {
    const uint64_t before = line.word.load();
    meter.Start();
    for (uint64_t i = 0; i < updates; ++i) update(line.word);
    meter.Stop();
    return line.word.load() - before == updates ? "" : "updates were lost";
  });
}

void Store(std::atomic<uint64_t>& word) {
  word.store(word.load(std::memory_order_relaxed) + 1,
             std::memory_order_release);
}
void FetchAdd(std::atomic<uint64_t>& word) { word.fetch_add(1); }
void CompareExchange(std::atomic<uint64_t>& word) {
  uint64_t seen = word.load(std::memory_order_relaxed);
  while (!word.compare_exchange_weak(seen, seen + 1)) {
  }
}

// Both CPUs add to one line; the time of one of them is what counts.
void Contended(benchmark::State& state) {
  const int other_cpu = OtherCpu();
  if (other_cpu < 0) return state.SkipWithError("there is only one CPU");
  const uint64_t updates = Steps();
  SharedLine line;
  Measure(state, updates, [&](Meter& meter) -> std::string {
    SharedLine stop;
    SharedLine others;
    std::thread other([&] {
      PinTo(other_cpu);
      while (stop.word.load(std::memory_order_relaxed) == 0) {
        line.word.fetch_add(1);
        others.word.fetch_add(1, std::memory_order_relaxed);
      }
    });
    while (others.word.load() == 0) {
    }
    const uint64_t before = others.word.load();
    meter.Start();
    for (uint64_t i = 0; i < updates; ++i) FetchAdd(line.word);
    meter.Stop();
    const uint64_t after = others.word.load();
    stop.word.store(1);
    other.join();
    meter.Note("others_per_own", static_cast<double>(after - before) /
                                     static_cast<double>(updates));
    return "";
  });
}

}  // namespace

void RegisterChaseAgain() { Register("Limits/chase_again", ChaseBench); }

void RegisterLimits() {
  Register("Limits/chase", ChaseBench);
  Register("Limits/random_update", RandomUpdate);
  Register("Limits/sequential", Sequential);
  Register("Limits/atomic/store",
           [](benchmark::State& state) { Atomic(state, Store); });
  Register("Limits/atomic/fetch_add",
           [](benchmark::State& state) { Atomic(state, FetchAdd); });
  Register("Limits/atomic/compare_exchange",
           [](benchmark::State& state) { Atomic(state, CompareExchange); });
  Register("Limits/atomic/contended_fetch_add", Contended);
}

}  // namespace shadowmmu::bench
