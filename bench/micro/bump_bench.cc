// Bump/N:<N>/vcpus:<0|8>: the generation bump alone, its lock included, with N
// pages mapped. Figures are per bump, of many in a row. The vCPUs are out of
// the guest, so that none is kicked.

#include <string>

#include "absl/strings/str_cat.h"
#include "bench/micro/ops.h"
#include "bench/micro/options.h"
#include "bench/micro/registry.h"
#include "src/mmu/invalidate.h"

namespace shadowmmu::bench {
namespace {

constexpr uint64_t kBumps = 1000;

void RunBump(benchmark::State& state, uint64_t gfns, unsigned vcpus) {
  const Layout layout = Layout::Direct(gfns, Order::kSequential);
  BenchVm vm(layout);
  for (unsigned i = 0; i < vcpus; ++i) vm.AddVcpu();
  ShadowMap map(&layout, &vm);
  Measure(state, kBumps, [&](Meter& meter) -> std::string {
    map.Populate();
    const uint64_t before = vm.mmu().generation();
    meter.Start();
    for (uint64_t i = 0; i < kBumps; ++i) Bump(vm.vm());
    meter.Stop();
    const Stats stats = vm.mmu().GetStats();
    std::string wrong = vm.ExpectSptes(gfns);
    if (vm.mmu().generation() - before != kBumps) wrong = "bumps were lost";
    if (stats.obsolete_pages != stats.shadow_pages) {
      wrong = "pages are not obsolete after a bump";
    }
    map.Clear();
    return wrong;
  });
}

}  // namespace

void RegisterBump() {
  for (const uint64_t gfns : TheOptions().Sizes()) {
    for (const unsigned vcpus : {0u, 8u}) {
      Register(absl::StrCat("Bump/N:", gfns, "/vcpus:", vcpus),
               [gfns, vcpus](benchmark::State& state) {
                 RunBump(state, gfns, vcpus);
               });
    }
  }
}

}  // namespace shadowmmu::bench
