#include "boot/calibration.h"

#include <optional>

#include "boot/cpu.h"
#include "boot/exit.h"
#include "boot/local_apic.h"
#include "boot/pit.h"

namespace hypervisor {
namespace {

constexpr uint32_t kDivideByOne = 0xb;
constexpr uint32_t kMasked = 1u << 16;

// The three clocks at one moment, or nearly.
struct Sample {
  uint64_t tsc;
  uint32_t apic;
  uint16_t pit;
};

// Of several samples the one that took the shortest time: on a virtual machine
// this CPU may lose the processor in the middle of one.
Sample TakeSample() {
  constexpr unsigned kTries = 10;
  Sample best = {};
  uint64_t shortest = ~uint64_t{0};
  for (unsigned i = 0; i < kTries; ++i) {
    const uint64_t before = ReadTsc();
    PitLatch();
    const uint32_t apic = ApicRead(ApicRegister::kTimerCurrentCount);
    const uint64_t took = ReadTsc() - before;
    const uint16_t pit = PitReadLatched();
    if (took >= shortest) continue;
    shortest = took;
    best.tsc = before + took / 2;
    best.apic = apic;
    best.pit = pit;
  }
  return best;
}

void WaitForPit(uint16_t from, uint16_t counts) {
  constexpr unsigned kPolls = 10000000;
  for (unsigned i = 0; i < kPolls; ++i) {
    PitLatch();
    if (static_cast<uint16_t>(from - PitReadLatched()) >= counts) return;
  }
  ExitBecause("the PIT does not count");
}

// Nothing if the PIT wrapped meanwhile.
std::optional<Calibration> Measure() {
  constexpr uint16_t kCounts = kPitHertz / 250;
  ApicWrite(ApicRegister::kTimer, kMasked);
  ApicWrite(ApicRegister::kTimerDivide, kDivideByOne);
  ApicWrite(ApicRegister::kTimerInitialCount, ~uint32_t{0});
  PitStart();
  const Sample begin = TakeSample();
  WaitForPit(begin.pit, kCounts);
  const Sample end = TakeSample();
  const bool wrapped = PitEnded();
  ApicWrite(ApicRegister::kTimerInitialCount, 0);
  if (wrapped || begin.pit <= end.pit) return std::nullopt;

  const uint64_t pit = begin.pit - end.pit;
  return Calibration{
      .tsc_hertz = (end.tsc - begin.tsc) * kPitHertz / pit,
      .apic_timer_hertz = uint64_t{begin.apic - end.apic} * kPitHertz / pit};
}

bool Agree(uint64_t a, uint64_t b) {
  constexpr unsigned kParts = 128;
  return (a > b ? a - b : b - a) <= b / kParts;
}

}  // namespace

// On a busy host this CPU may lose the processor for longer than the PIT
// counts, and in the middle of every sample.
Calibration Calibrate() {
  constexpr unsigned kTries = 1000;
  std::optional<Calibration> last;
  for (unsigned i = 0; i < kTries; ++i) {
    const std::optional<Calibration> next = Measure();
    if (!next) continue;
    if (last && Agree(last->tsc_hertz, next->tsc_hertz) &&
        Agree(last->apic_timer_hertz, next->apic_timer_hertz)) {
      return *next;
    }
    last = next;
  }
  ExitBecause("no two measurements of the clocks agree");
}

}  // namespace hypervisor
