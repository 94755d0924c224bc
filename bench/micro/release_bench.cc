// What a release costs, and what comes after it.
//
//   Release/N:<N>/vcpus:<0|8>      the release alone, its lock included, with N
//                                  pages mapped; `walk` is the obsolete walk
//                                  with its bump, of the same map, and `times`
//                                  how much longer that takes. The vCPUs are
//                                  out of the guest: nobody is kicked. Per
//                                  release.
//   Warm/<strategy>/<faults|prefault>/N:<N>
//                                  an invalidation of N pages of a guest with
//                                  paging off, and until all are mapped again:
//                                  by a fault each, or by Prefault. Of that
//                                  `op`: the invalidation alone; `warm`: the
//                                  rest, per page. Time per page. (Such a guest
//                                  has 2^20 pages, and no more.)
//   SlotZap/<policy>/slot:<S>/others:<O>
//                                  Mmu::DeleteSlot of a slot of S pages, beside
//                                  one of O pages, all mapped by a guest with
//                                  paging off; and until what is left is mapped
//                                  again. `op`: the deletion alone; `warm`: the
//                                  rest; `way`: what was done (1 targeted, 2
//                                  walk, 3 release). All in ns. Time: the
//                                  whole.

#include <chrono>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/micro/bench_vm.h"
#include "bench/micro/meter.h"
#include "bench/micro/ops.h"
#include "bench/micro/options.h"
#include "bench/micro/registry.h"
#include "src/base/check.h"
#include "src/mmu/invalidate.h"
#include "src/mmu/release.h"

namespace shadowmmu::bench {
namespace {

using Clock = std::chrono::steady_clock;

double Nanoseconds(Clock::duration time) {
  return std::chrono::duration<double, std::nano>(time).count();
}

// ---- Release ----

void RunRelease(benchmark::State& state, uint64_t gfns, unsigned vcpus) {
  const Layout layout = Layout::Direct(gfns, Order::kSequential);
  BenchVm vm(layout);
  for (unsigned i = 0; i < vcpus; ++i) vm.AddVcpu();
  ShadowMap map(&layout, &vm);
  Measure(state, 1, [&](Meter& meter) -> std::string {
    map.Populate();
    const Clock::time_point before = Clock::now();
    Bump(vm.vm());
    Reclaim(vm.vm(), kNoBudget);
    const double walk = Nanoseconds(Clock::now() - before);
    map.Populate();
    std::string wrong = vm.ExpectSptes(gfns);
    meter.Start();
    Release(vm.vm());
    meter.Stop();
    meter.Note("walk", walk);
    meter.Note("times", walk / meter.nanoseconds());
    if (vm.stats().shadow_pages != 0) wrong = "pages outlived a release";
    return wrong;
  });
}

// ---- Warm ----

constexpr Strategy kStrategies[] = {Strategy::kZapAll, Strategy::kObsoleteWalk,
                                    Strategy::kRelease};
constexpr const char* kStrategyNames[] = {"zap_all", "obsolete_walk",
                                          "release"};
enum class How : uint8_t { kFaults, kPrefault };

// Maps `gfns`, as a guest that reads and writes them, or at once.
void MapAll(VcpuMmu& vcpu, GfnRange gfns, How how) {
  if (how == How::kPrefault) {
    const PrefaultResult result =
        vcpu.Prefault(Gva(ToGpa(gfns.begin).value()), gfns.pages, Write());
    SMMU_CHECK_EQ(result.mapped, gfns.pages);
    return;
  }
  for (uint64_t i = 0; i < gfns.pages; ++i) {
    const Gva gva(ToGpa(gfns.begin + i).value());
    SMMU_CHECK(vcpu.HandleFault(gva, Write()).resume());
  }
}

uint32_t TablesFor(uint64_t pages) {
  return static_cast<uint32_t>(pages / kEntriesPerTable + 16);
}

void RunWarm(benchmark::State& state, Strategy strategy, How how,
             uint64_t pages) {
  const GfnRange gfns{Gfn(0), pages};
  BenchVm vm(TablesFor(pages));
  vm.AddSlot(BenchVm::Untouched(SlotId{0}, gfns));
  VcpuMmu& vcpu = vm.AddVcpu();
  Measure(state, pages, [&](Meter& meter) -> std::string {
    MapAll(vcpu, gfns, How::kPrefault);
    BenchVm::PassThroughGuest(vcpu);
    const Clock::time_point start = Clock::now();
    meter.Start();
    vm.mmu().InvalidateAll(strategy);
    const Clock::time_point invalid = Clock::now();
    BenchVm::PassThroughGuest(vcpu);
    MapAll(vcpu, gfns, how);
    meter.Stop();
    const double warm = Nanoseconds(Clock::now() - invalid);
    meter.Note("op", Nanoseconds(invalid - start));
    meter.Note("warm", warm / static_cast<double>(pages));
    return vm.ExpectSptes(pages);
  });
}

// ---- SlotZap ----

void RunSlotZap(benchmark::State& state, SlotZapPolicy policy, uint64_t slot,
                uint64_t others) {
  const GfnRange stays{Gfn(0), others};
  // Not in the same page tables.
  const SlotSpec goes = BenchVm::Untouched(
      SlotId{1}, {AlignDown(Gfn(others + 511), Level::k2M), slot});
  BenchVm vm(TablesFor(slot + others));
  vm.AddSlot(BenchVm::Untouched(SlotId{0}, stays));
  VcpuMmu& vcpu = vm.AddVcpu();
  Measure(state, 1, [&](Meter& meter) -> std::string {
    vm.AddSlot(goes);
    MapAll(vcpu, goes.gfns(), How::kPrefault);
    MapAll(vcpu, stays, How::kPrefault);
    BenchVm::PassThroughGuest(vcpu);
    meter.Start();
    const absl::Status gone = vm.mmu().DeleteSlot(goes.space, goes.id, policy);
    meter.Stop();
    const double deletion = meter.nanoseconds();
    if (!gone.ok()) return gone.ToString();
    const SlotZapPolicy way = vm.stats().last_slot_zap.way;
    // The guest goes through its memory, and faults where it must.
    meter.Start();
    BenchVm::PassThroughGuest(vcpu);
    if (way != SlotZapPolicy::kTargeted) MapAll(vcpu, stays, How::kFaults);
    meter.Stop();
    meter.Note("op", deletion);
    meter.Note("warm", meter.nanoseconds() - deletion);
    meter.Note("way", static_cast<double>(way));
    return vm.ExpectSptes(others);
  });
}

}  // namespace

void RegisterReleases() {
  const bool small = TheOptions().small();
  for (const uint64_t pages :
       small ? std::vector<uint64_t>{1 << 10}
             : std::vector<uint64_t>{1 << 10, 1 << 14, 1 << 18, 1 << 21,
                                     1 << 23}) {
    for (const unsigned vcpus : {0u, 8u}) {
      Register(
          absl::StrCat("Release/N:", pages, "/vcpus:", vcpus),
          [=](benchmark::State& state) { RunRelease(state, pages, vcpus); });
    }
  }
  for (const uint64_t pages :
       small ? std::vector<uint64_t>{1 << 10}
             : std::vector<uint64_t>{1 << 10, 1 << 14, 1 << 18, 1 << 20}) {
    for (const Strategy strategy : kStrategies) {
      for (const How how : {How::kFaults, How::kPrefault}) {
        Register(
            absl::StrCat("Warm/", kStrategyNames[static_cast<size_t>(strategy)],
                         how == How::kFaults ? "/faults" : "/prefault",
                         "/N:", pages),
            [=](benchmark::State& state) {
              RunWarm(state, strategy, how, pages);
            });
      }
    }
  }
  const std::vector<uint64_t> sizes =
      small ? std::vector<uint64_t>{1 << 10}
            : std::vector<uint64_t>{1 << 10, 1 << 14, 1 << 18};
  for (const uint64_t slot : sizes) {
    for (const uint64_t others : sizes) {
      for (const SlotZapPolicy policy :
           {SlotZapPolicy::kAuto, SlotZapPolicy::kTargeted,
            SlotZapPolicy::kWalk, SlotZapPolicy::kRelease}) {
        Register(absl::StrFormat("SlotZap/%s/slot:%d/others:%d",
                                 absl::FormatStreamed(policy), slot, others),
                 [=](benchmark::State& state) {
                   RunSlotZap(state, policy, slot, others);
                 });
      }
    }
  }
}

}  // namespace shadowmmu::bench
