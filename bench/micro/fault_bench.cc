// Fault/direct/N:<N>/order:<seq|rand> and Fault/indirect/aliases:<A>/N:<N>/
// map:<seq|rand>: HandleFault as a whole, through the public face: one write
// fault for each page that is not mapped yet, on a vCPU with paging off, or
// with four levels. Figures are per fault.
//
// Rewrite/<tables>/N:<N>/path:<fast|slow>: the same for each page that is
// mapped, and that a harvest of the dirty log has write-protected: as the CPU
// reports it, which takes the short way (src/mmu/fast_fault.h), and as one that
// does not say why it faulted, which takes the long one.
//
// Timed is all of VcpuMmu::HandleFault: the guest walk (accessed and dirty bits
// are set already), the slot, the host's answer (DefaultHost: arithmetic), the
// chunks, the lock, the room, the mapping. Not timed, because it is not there:
// the exit and the entry of a real CPU. The vCPU has a root, and no request to
// serve.

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

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

// What a store finds after a harvest of the log.
enum class Path : uint8_t { kFast, kSlow };

// A layout's slots are made in this order.
constexpr std::array<SlotId, 2> kSlots = {SlotId{0}, SlotId{1}};

void HarvestLog(BenchVm& vm, const Layout& layout) {
  for (const SlotId id : kSlots) {
    const uint64_t pages = layout.slots()[ToInt(id)].pages;
    std::vector<uint64_t> words(DirtyBitmapWords(pages));
    SMMU_CHECK(
        vm.mmu().GetAndClearDirty(AddressSpace::kNormal, id, words).ok());
  }
}

// Precondition: every page is mapped, and its slot logs.
std::string RewriteAll(BenchVm& vm, VcpuMmu& vcpu, const Layout& layout,
                       Path path, Meter& meter) {
  HarvestLog(vm, layout);
  const uint64_t fast = vm.mmu().GetStats().fast_faults;
  Access store = Write();
  if (path == Path::kFast) {
    store.reported_error = pf_error::kPresent | pf_error::kWrite;
  }
  uint64_t unresolved = 0;
  BenchVm::PassThroughGuest(vcpu);
  meter.Start();
  for (const Layout::Entry& entry : layout.entries()) {
    if (!vcpu.HandleFault(entry.gva(), store).resume()) ++unresolved;
  }
  meter.Stop();
  if (unresolved != 0) return absl::StrCat(unresolved, " faults are not over");
  const uint64_t were = vm.mmu().GetStats().fast_faults - fast;
  const uint64_t expected = path == Path::kFast ? layout.sptes() : 0;
  if (were != expected) {
    return absl::StrCat(were, " faults were fast, of ", layout.sptes());
  }
  return vm.ExpectSptes(layout.sptes());
}

void MeasureRewrites(benchmark::State& state, BenchVm& vm, VcpuMmu& vcpu,
                     const Layout& layout, Path path) {
  for (const SlotId id : kSlots) {
    SMMU_CHECK(
        vm.mmu()
            .SetSlotFlags(AddressSpace::kNormal, id, SlotFlags::kLogDirty)
            .ok());
  }
  for (const Layout::Entry& entry : layout.entries()) {
    SMMU_CHECK(vcpu.HandleFault(entry.gva(), Write()).resume());
  }
  Measure(state, layout.sptes(), [&](Meter& meter) {
    return RewriteAll(vm, vcpu, layout, path, meter);
  });
}

void RunDirect(benchmark::State& state, uint64_t gfns, Order order,
               std::optional<Path> rewrite) {
  const Layout layout = Layout::Direct(gfns, order);
  BenchVm vm(layout);
  VcpuMmu& vcpu = vm.AddVcpu();
  if (rewrite) return MeasureRewrites(state, vm, vcpu, layout, *rewrite);
  Measure(state, gfns,
          [&](Meter& meter) { return FaultAll(vm, vcpu, layout, meter); });
}

void RunIndirect(benchmark::State& state, uint64_t aliases, uint64_t gfns,
                 MapKind map, std::optional<Path> rewrite) {
  const Layout layout = Layout::Indirect(aliases, gfns, map);
  const GuestTables tables(layout);
  BenchVm vm(layout.tables());
  vm.AddSlot(layout.slots()[0]);
  vm.AddSlot(tables.slot());
  VcpuMmu& vcpu = vm.AddVcpu();
  const absl::Status four_levels = vcpu.SetRegisters(tables.registers());
  SMMU_CHECK(four_levels.ok()) << four_levels.ToString();
  if (rewrite) return MeasureRewrites(state, vm, vcpu, layout, *rewrite);
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
                 RunDirect(state, gfns, order, std::nullopt);
               });
    }
    for (const uint64_t aliases : {1, 16}) {
      for (const MapKind map : {MapKind::kSequential, MapKind::kRandom}) {
        Register(absl::StrCat("Fault/indirect/aliases:", aliases,
                              "/N:", size / aliases, "/map:", Name(map)),
                 [=](benchmark::State& state) {
                   RunIndirect(state, aliases, size / aliases, map,
                               std::nullopt);
                 });
      }
    }
    for (const Path path : {Path::kFast, Path::kSlow}) {
      const char* const name = path == Path::kFast ? "fast" : "slow";
      Register(absl::StrCat("Rewrite/direct/N:", gfns, "/path:", name),
               [=](benchmark::State& state) {
                 RunDirect(state, gfns, Order::kSequential, path);
               });
      Register(absl::StrCat("Rewrite/indirect/N:", size, "/path:", name),
               [=](benchmark::State& state) {
                 RunIndirect(state, 1, size, MapKind::kSequential, path);
               });
    }
  }
}

}  // namespace shadowmmu::bench
