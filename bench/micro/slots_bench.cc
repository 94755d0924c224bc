// Slots/...: making, deleting and finding slots, with 1, 512 and 32,764 of
// them, and nothing mapped. Figures are per slot, and per lookup.
//
//   Slots/create/slots:<S>         one more slot, where there are S - 1
//   Slots/delete/slots:<S>         one of S slots
//   Slots/create_1TiB              a slot of 2^28 pages; `bytes` of address
//                                  space and `resident` bytes that it takes
//   Slots/lookup_<hot|cold>/slots:<S>
//                                  SlotTable::Find of random gfns: 64 of them
//                                  over and over; or one, right after memory
//                                  twice the size of the caches was written

#include <unistd.h>

#include <chrono>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/micro/bench_vm.h"
#include "bench/micro/limits.h"
#include "bench/micro/meter.h"
#include "bench/micro/options.h"
#include "bench/micro/random.h"
#include "bench/micro/registry.h"
#include "src/base/check.h"

namespace shadowmmu::bench {
namespace {

constexpr AddressSpace kSpace = AddressSpace::kNormal;
constexpr uint64_t kPagesPerSlot = 4;
constexpr uint64_t kSlotSeed = 42;

SlotSpec SlotAt(uint32_t number) {
  return BenchVm::Untouched(
      SlotId{number}, {Gfn(uint64_t{number} * kPagesPerSlot), kPagesPerSlot});
}

std::string ExpectSlots(BenchVm& vm, uint64_t slots) {
  const uint64_t there = vm.mmu().GetStats().slots;
  if (there == slots) return "";
  return absl::StrCat("there are ", there, " slots, not ", slots);
}

// One of the `slots` slots, chosen anew for each run, is deleted and made
// again; one half of that is timed.
enum class Half : uint8_t { kDelete, kCreate };

void DeleteAndCreate(benchmark::State& state, uint32_t slots, Half timed) {
  BenchVm vm(0);
  for (uint32_t i = 0; i < slots; ++i) vm.AddSlot(SlotAt(i));
  SplitMix64 random(kSlotSeed);
  Measure(state, 1, [&](Meter& meter) -> std::string {
    const SlotSpec spec = SlotAt(static_cast<uint32_t>(random.Below(slots)));
    if (timed == Half::kDelete) meter.Start();
    const absl::Status deleted = vm.mmu().DeleteSlot(kSpace, spec.id);
    if (timed == Half::kDelete) meter.Stop();
    std::string wrong = ExpectSlots(vm, slots - 1);
    if (timed == Half::kCreate) meter.Start();
    const absl::Status created = vm.mmu().CreateSlot(spec);
    if (timed == Half::kCreate) meter.Stop();
    if (!deleted.ok()) return deleted.ToString();
    if (!created.ok()) return created.ToString();
    if (!wrong.empty()) return wrong;
    return ExpectSlots(vm, slots);
  });
}

// Bytes of this process that are in memory.
uint64_t Resident() {
  std::ifstream statm("/proc/self/statm");
  uint64_t all = 0;
  uint64_t resident = 0;
  statm >> all >> resident;
  return resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

void CreateTerabyte(benchmark::State& state) {
  BenchVm vm(0);
  const SlotSpec spec =
      BenchVm::Untouched(SlotId{0}, {Gfn(0), uint64_t{1} << 28});
  Measure(state, 1, [&](Meter& meter) -> std::string {
    const uint64_t resident_before = Resident();
    const uint64_t bytes_before = vm.mmu().GetStats().metadata_bytes;
    meter.Start();
    const absl::Status created = vm.mmu().CreateSlot(spec);
    meter.Stop();
    if (!created.ok()) return created.ToString();
    const uint64_t bytes = vm.mmu().GetStats().metadata_bytes;
    meter.Note("bytes", static_cast<double>(bytes - bytes_before));
    const uint64_t resident = Resident();
    meter.Note("resident",
               resident < resident_before
                   ? 0.0
                   : static_cast<double>(resident - resident_before));
    const absl::Status deleted = vm.mmu().DeleteSlot(kSpace, spec.id);
    return deleted.ok() ? "" : deleted.ToString();
  });
}

std::vector<Gfn> RandomGfns(uint32_t slots, size_t count) {
  SplitMix64 random(kSlotSeed);
  std::vector<Gfn> gfns;
  while (gfns.size() < count) {
    gfns.emplace_back(random.Below(slots * kPagesPerSlot));
  }
  return gfns;
}

void LookupHot(benchmark::State& state, uint32_t slots) {
  constexpr uint64_t kRounds = 1000;
  BenchVm vm(0);
  for (uint32_t i = 0; i < slots; ++i) vm.AddSlot(SlotAt(i));
  const std::vector<Gfn> gfns = RandomGfns(slots, 64);
  Measure(state, kRounds * gfns.size(), [&](Meter& meter) -> std::string {
    const SlotReader reader(vm.vm().slots);
    uint64_t found = 0;
    meter.Start();
    for (uint64_t round = 0; round < kRounds; ++round) {
      for (const Gfn gfn : gfns) {
        found += reader.table().Find(kSpace, gfn)->Contains(gfn) ? 1 : 0;
      }
    }
    meter.Stop();
    return found == kRounds * gfns.size() ? "" : "slots were not found";
  });
}

// What two readings of the clock with nothing between them differ by.
double ClockCost() {
  using Clock = std::chrono::steady_clock;
  std::vector<double> costs;
  for (int i = 0; i < 101; ++i) {
    const Clock::time_point before = Clock::now();
    const std::chrono::duration<double, std::nano> cost = Clock::now() - before;
    costs.push_back(cost.count());
  }
  return Median(costs);
}

// Each run is a few lookups, with the caches emptied before each, but for the
// code: that is brought back by a lookup in another, tiny table. The median of
// them is noted as `cold_ns`, without the clock's own cost.
void LookupCold(benchmark::State& state, uint32_t slots) {
  const size_t lookups = TheOptions().small() ? 3 : 31;
  BenchVm vm(0);
  for (uint32_t i = 0; i < slots; ++i) vm.AddSlot(SlotAt(i));
  BenchVm tiny(0);
  tiny.AddSlot(SlotAt(0));
  HugeMemory evict(size_t{64} << 20);
  const std::vector<Gfn> gfns = RandomGfns(slots, lookups);
  Measure(state, lookups, [&](Meter& meter) -> std::string {
    const double clock = ClockCost();
    const SlotReader reader(vm.vm().slots);
    const SlotReader tiny_reader(tiny.vm().slots);
    std::vector<double> times;
    for (const Gfn gfn : gfns) {
      uint64_t* const words = evict.as<uint64_t>();
      for (size_t i = 0; i < evict.bytes() / sizeof(*words); i += 8) ++words[i];
      Meter code(Meter::Phase::kDropped);
      code.Start();
      if (!tiny_reader.table().Find(kSpace, Gfn(0))->Contains(Gfn(0))) {
        return "the tiny table has no slot";
      }
      code.Stop();
      const double before = meter.nanoseconds();
      meter.Start();
      const bool found = reader.table().Find(kSpace, gfn)->Contains(gfn);
      meter.Stop();
      if (!found) return "a slot was not found";
      times.push_back(meter.nanoseconds() - before - clock);
    }
    meter.Note("cold_ns", Median(times));
    return "";
  });
}

}  // namespace

void RegisterSlots() {
  std::vector<uint32_t> counts{1, 512};
  if (!TheOptions().small()) counts.push_back(32764);
  for (const uint32_t slots : counts) {
    const std::string suffix = absl::StrCat("/slots:", slots);
    Register("Slots/create" + suffix, [slots](benchmark::State& state) {
      DeleteAndCreate(state, slots, Half::kCreate);
    });
    Register("Slots/delete" + suffix, [slots](benchmark::State& state) {
      DeleteAndCreate(state, slots, Half::kDelete);
    });
    Register("Slots/lookup_hot" + suffix,
             [slots](benchmark::State& state) { LookupHot(state, slots); });
    Register("Slots/lookup_cold" + suffix,
             [slots](benchmark::State& state) { LookupCold(state, slots); });
  }
  Register("Slots/create_1TiB", CreateTerabyte);
}

}  // namespace shadowmmu::bench
