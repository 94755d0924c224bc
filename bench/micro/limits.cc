#include "bench/micro/limits.h"

#include <sys/mman.h>

#include <cstdlib>
#include <utility>
#include <vector>

#include "bench/micro/callgrind.h"
#include "bench/micro/meter.h"
#include "bench/micro/options.h"
#include "bench/micro/random.h"
#include "src/base/check.h"

namespace shadowmmu::bench {
namespace {

// How far ahead UpdateAtRandom prefetches: enough misses to fill what a core
// keeps in flight, few enough to stay in its first cache.
constexpr uint64_t kAhead = 32;

double MeasureLatency() {
  constexpr uint64_t kSteps = uint64_t{1} << 18;
  constexpr int kRuns = 6;
  HugeMemory memory(LimitBytes());
  Chase chase(memory);
  std::vector<double> latencies;
  for (int i = 0; i < kRuns; ++i) {
    Meter meter(Meter::Phase::kDropped);
    meter.Start();
    chase.Step(kSteps);
    meter.Stop();
    if (i != 0) latencies.push_back(meter.nanoseconds() / kSteps);
  }
  return Median(latencies);
}

}  // namespace

std::optional<double> MissLatency() {
  static const std::optional<double> latency =
      UnderValgrind() ? std::nullopt : std::optional(MeasureLatency());
  return latency;
}

size_t LimitBytes() { return size_t{1} << (TheOptions().small() ? 26 : 30); }

HugeMemory::HugeMemory(size_t bytes) : bytes_(bytes) {
  constexpr size_t kHugePage = size_t{2} << 20;
  SMMU_CHECK_EQ(bytes % kHugePage, 0u);
  memory_ = std::aligned_alloc(kHugePage, bytes);
  SMMU_CHECK(memory_ != nullptr) << "no " << bytes << " bytes to measure in";
  madvise(memory_, bytes, MADV_HUGEPAGE);
  // Touched now, so that no measurement pays for it.
  auto* const words = as<uint64_t>();
  for (size_t i = 0; i < bytes / sizeof(uint64_t); i += 64) words[i] = i;
}

HugeMemory::~HugeMemory() { std::free(memory_); }

// Sattolo's shuffle: one ring, which no step leaves.
Chase::Chase(HugeMemory& memory) : lines_(memory.as<Line>()) {
  const uint64_t count = memory.bytes() / sizeof(Line);
  for (uint64_t i = 0; i < count; ++i) lines_[i].next = i;
  SplitMix64 random(42);
  for (uint64_t i = count; i-- > 1;) {
    std::swap(lines_[i].next, lines_[random.Below(i)].next);
  }
}

void Chase::Step(uint64_t steps) {
  uint64_t at = at_;
  for (uint64_t i = 0; i < steps; ++i) at = lines_[at].next;
  at_ = at;
  benchmark::DoNotOptimize(at_);
}

uint64_t UpdateAtRandom(HugeMemory& memory, uint64_t seed, uint64_t updates) {
  auto* const words = memory.as<uint64_t>();
  const uint64_t count = memory.bytes() / sizeof(uint64_t);
  const auto place = [&](uint64_t n) -> uint64_t* {
    return &words[SplitMix64::Scale(SplitMix64::At(seed, n), count)];
  };
  uint64_t sum = 0;
  for (uint64_t i = 0; i < updates; ++i) {
    __builtin_prefetch(place(i + kAhead), 1);
    sum += (*place(i))++;
  }
  return sum;
}

uint64_t ReadAll(const HugeMemory& memory) {
  const auto* const words = memory.as<const uint64_t>();
  const uint64_t count = memory.bytes() / sizeof(uint64_t);
  // Four sums, so that the loads and not the additions are what takes time.
  uint64_t sum[4] = {};
  for (uint64_t i = 0; i < count; i += 4) {
    for (uint64_t k = 0; k < 4; ++k) sum[k] += words[i + k];
  }
  return sum[0] + sum[1] + sum[2] + sum[3];
}

}  // namespace shadowmmu::bench
