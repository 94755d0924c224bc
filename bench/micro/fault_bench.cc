// Fault/direct/N:<N>/order:<seq|rand> and Fault/indirect/aliases:<A>/N:<N>/
// map:<seq|rand>: HandleFault as a whole, through the public face: one write
// fault for each page that is not mapped yet, on a vCPU with paging off, or
// with four levels. Figures are per fault.
//
// Timed is all of VcpuMmu::HandleFault: the guest walk (accessed and dirty bits
// are set already), the slot, the host's answer (DefaultHost: arithmetic), the
// chunks, the lock, the room, the mapping. Not timed, because it is not there:
// the exit and the entry of a real CPU. The vCPU has a root, and no request to
// serve.

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "bench/micro/bench_vm.h"
#include "bench/micro/guest_tables.h"
#include "bench/micro/layout.h"
#include "bench/micro/meter.h"
#include "bench/micro/options.h"
#include "bench/micro/registry.h"
#include "src/base/check.h"
#include "src/mmu/invalidate.h"

namespace shadowmmu::bench {
namespace {

std::string FaultAll(BenchVm& vm, VcpuMmu& vcpu, const Layout& layout,
                     Meter& meter) {
  uint64_t unresolved = 0;
  BenchVm::PassThroughGuest(vcpu);
  meter.Start();
  for (const Layout::Entry& entry : layout.entries()) {
    if (!vcpu.HandleFault(entry.gva(), Write()).resume()) ++unresolved;
  }
  meter.Stop();
  std::string wrong = vm.ExpectSptes(layout.sptes());
  if (unresolved != 0) wrong = absl::StrCat(unresolved, " faults are not over");
  ZapAll(vm.vm());
  return wrong;
}

void RunDirect(benchmark::State& state, uint64_t gfns, Order order) {
  const Layout layout = Layout::Direct(gfns, order);
  BenchVm vm(layout);
  VcpuMmu& vcpu = vm.AddVcpu();
  Measure(state, gfns,
          [&](Meter& meter) { return FaultAll(vm, vcpu, layout, meter); });
}

void RunIndirect(benchmark::State& state, uint64_t aliases, uint64_t gfns,
                 MapKind map) {
  const Layout layout = Layout::Indirect(aliases, gfns, map);
  const GuestTables tables(layout);
  BenchVm vm(layout.tables());
  vm.AddSlot(layout.slots()[0]);
  vm.AddSlot(tables.slot());
  VcpuMmu& vcpu = vm.AddVcpu();
  const absl::Status four_levels = vcpu.SetRegisters(tables.registers());
  SMMU_CHECK(four_levels.ok()) << four_levels.ToString();
  Measure(state, layout.sptes(),
          [&](Meter& meter) { return FaultAll(vm, vcpu, layout, meter); });
}

}  // namespace

void RegisterFaults() {
  // Without paging a guest reaches 4 GiB.
  constexpr uint64_t kMostDirect = uint64_t{1} << 20;
  for (const uint64_t size : TheOptions().Sizes()) {
    const uint64_t gfns = std::min(size, kMostDirect);
    if (size > uint64_t{1} << 21) continue;
    for (const Order order : {Order::kSequential, Order::kRandom}) {
      Register(absl::StrCat("Fault/direct/N:", gfns, "/order:", Name(order)),
               [gfns, order](benchmark::State& state) {
                 RunDirect(state, gfns, order);
               });
    }
    for (const uint64_t aliases : {1, 16}) {
      for (const MapKind map : {MapKind::kSequential, MapKind::kRandom}) {
        Register(absl::StrCat("Fault/indirect/aliases:", aliases,
                              "/N:", size / aliases, "/map:", Name(map)),
                 [=](benchmark::State& state) {
                   RunIndirect(state, aliases, size / aliases, map);
                 });
      }
    }
  }
}

}  // namespace shadowmmu::bench
