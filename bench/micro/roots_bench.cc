// Switch/processes:<P>/previous:<0|3>: MOV to CR3 and the entry after it, for P
// processes in turn, on a vCPU that keeps so many roots besides its current
// one. With up to four processes and three previous roots each switch goes to
// one of these; otherwise the root is found by its gfn, under the MMU lock.
// Nothing is unmapped meanwhile. Figures are per switch, of many in a row; the
// TLB flush that each entails costs nothing here (DefaultHost).

#include <string>

#include "absl/strings/str_cat.h"
#include "bench/micro/bench_vm.h"
#include "bench/micro/meter.h"
#include "bench/micro/registry.h"
#include "src/base/check.h"

namespace shadowmmu::bench {
namespace {

constexpr uint64_t kSwitches = 10'000;

void RunSwitch(benchmark::State& state, uint64_t processes, uint32_t previous) {
  BenchVm vm(/*tables=*/64, {.previous_roots = previous});
  vm.AddSlot(GfnRange{Gfn(0), 64});
  VcpuMmu& vcpu = vm.AddVcpu();
  const absl::Status four_levels =
      vcpu.SetRegisters({.cr0 = cr0::kPe | cr0::kWp | cr0::kPg,
                         .cr4 = cr4::kPae,
                         .efer = efer::kLme | efer::kLma | efer::kNxe});
  SMMU_CHECK(four_levels.ok()) << four_levels.ToString();
  Measure(state, kSwitches, [&](Meter& meter) -> std::string {
    const Stats before = vm.mmu().GetStats();
    uint64_t refused = 0;
    meter.Start();
    for (uint64_t i = 0; i < kSwitches; ++i) {
      const Gfn root(i % processes);
      if (!vcpu.WriteCr3(ToGpa(root).value()).ok()) ++refused;
      BenchVm::PassThroughGuest(vcpu);
    }
    meter.Stop();
    const Stats stats = vm.mmu().GetStats();
    const uint64_t hits = stats.root_cache_hits - before.root_cache_hits;
    meter.Note("hits", static_cast<double>(hits) / kSwitches);
    if (refused != 0) return absl::StrCat(refused, " switches were refused");
    const bool cached = processes <= previous + 1;
    if (cached != (hits + 2 * processes > kSwitches)) {
      return absl::StrCat(hits, " switches went to a previous root");
    }
    return vm.ExpectSptes(0);
  });
}

}  // namespace

void RegisterRoots() {
  for (const uint64_t processes : {2, 4, 8}) {
    for (const uint32_t previous : {0u, kMaxPreviousRoots}) {
      Register(
          absl::StrCat("Switch/processes:", processes, "/previous:", previous),
          [=](benchmark::State& state) {
            RunSwitch(state, processes, previous);
          });
    }
  }
}

}  // namespace shadowmmu::bench
