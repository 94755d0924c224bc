// Prefetch/window:<W>/touch:<seq|rand|sparse>: what a page costs that a guest
// touches, by how many neighbours are mapped with one that faults. The guest's
// tables are full, their accessed and dirty bits set, as after a bump or a
// switch to a root that has gone. It touches all of its pages in order, all at
// random, or one in sixteen at random, which is what prefetching is worst at.
//
// Figures are per page that is touched; `faults` is how many faults it took.
// Timed is all of VcpuMmu::HandleFault, for the first page of each window that
// is touched: the others are mapped then, which the count of sptes proves. Not
// timed, because it is not there: the exit and the entry of a real CPU, which
// each fault costs beside.

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/micro/bench_vm.h"
#include "bench/micro/guest_tables.h"
#include "bench/micro/layout.h"
#include "bench/micro/meter.h"
#include "bench/micro/options.h"
#include "bench/micro/random.h"
#include "bench/micro/registry.h"
#include "src/base/check.h"
#include "src/mmu/invalidate.h"

namespace shadowmmu::bench {
namespace {

enum class Touch : uint8_t { kSequential, kRandom, kSparse };

const char* Name(Touch touch) {
  switch (touch) {
    case Touch::kSequential:
      return "seq";
    case Touch::kRandom:
      return "rand";
    case Touch::kSparse:
      break;
  }
  return "sparse";
}

// The pages that are touched, in order.
std::vector<uint32_t> PagesOf(uint64_t pages, Touch touch) {
  constexpr uint64_t kSeed = 7;
  std::vector<uint32_t> touched = Permutation(pages, kSeed);
  if (touch == Touch::kSequential) std::sort(touched.begin(), touched.end());
  if (touch == Touch::kSparse) touched.resize(pages / 16);
  return touched;
}

// Of these, the first of each window.
std::vector<uint32_t> FaultsOf(const std::vector<uint32_t>& touched,
                               uint64_t pages, uint32_t window) {
  std::vector<bool> mapped(pages / window + 1);
  std::vector<uint32_t> faults;
  for (const uint32_t page : touched) {
    if (mapped[page / window]) continue;
    mapped[page / window] = true;
    faults.push_back(page);
  }
  return faults;
}

void RunPrefetch(benchmark::State& state, uint32_t window, Touch touch) {
  const uint64_t pages = TheOptions().small() ? 1 << 10 : 1 << 18;
  const Layout layout =
      Layout::Indirect(/*aliases=*/1, pages, MapKind::kSequential);
  const GuestTables tables(layout);
  BenchVm vm(layout.tables(), {.prefetch = window});
  vm.AddSlot(layout.slots()[0]);
  vm.AddSlot(tables.slot());
  VcpuMmu& vcpu = vm.AddVcpu();
  const absl::Status four_levels = vcpu.SetRegisters(tables.registers());
  SMMU_CHECK(four_levels.ok()) << four_levels.ToString();
  const std::vector<uint32_t> touched = PagesOf(pages, touch);
  const uint32_t each = std::max(window, 1u);
  const std::vector<uint32_t> faults = FaultsOf(touched, pages, each);
  Measure(state, touched.size(), [&](Meter& meter) -> std::string {
    uint64_t unresolved = 0;
    BenchVm::PassThroughGuest(vcpu);
    meter.Start();
    for (const uint32_t page : faults) {
      const Gva gva(uint64_t{page} << kPageShift);
      if (!vcpu.HandleFault(gva, Write()).resume()) ++unresolved;
    }
    meter.Stop();
    meter.Note("faults", static_cast<double>(faults.size()) /
                             static_cast<double>(touched.size()));
    std::string wrong = vm.ExpectSptes(faults.size() * each);
    if (unresolved != 0) wrong = absl::StrCat(unresolved, " are not over");
    ZapAll(vm.vm());
    return wrong;
  });
}

}  // namespace

void RegisterPrefetch() {
  for (const uint32_t window : {0, 2, 4, 8, 16, 32, 64}) {
    for (const Touch touch :
         {Touch::kSequential, Touch::kRandom, Touch::kSparse}) {
      Register(
          absl::StrCat("Prefetch/window:", window, "/touch:", Name(touch)),
          [=](benchmark::State& state) { RunPrefetch(state, window, touch); });
    }
  }
}

}  // namespace shadowmmu::bench
