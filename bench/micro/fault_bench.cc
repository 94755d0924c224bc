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

#include <sys/mman.h>

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "bench/micro/bench_vm.h"
#include "bench/micro/layout.h"
#include "bench/micro/meter.h"
#include "bench/micro/options.h"
#include "bench/micro/registry.h"
#include "src/base/check.h"
#include "src/mmu/invalidate.h"
#include "src/mmu/spte.h"

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

// The guest's tables, in host memory: all of the layout's second slot, of which
// only the tables are ever touched.
class GuestTables {
 public:
  explicit GuestTables(const Layout& layout)
      : layout_(layout), slot_(layout.slots()[1]) {
    void* const memory =
        mmap(nullptr, bytes(), PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    SMMU_CHECK(memory != MAP_FAILED) << "no memory for the guest's tables";
    entries_ = static_cast<uint64_t*>(memory);
    for (const Layout::Entry& entry : layout.entries()) Build(entry);
  }
  ~GuestTables() { munmap(entries_, bytes()); }
  GuestTables(const GuestTables&) = delete;
  GuestTables& operator=(const GuestTables&) = delete;

  SlotSpec slot() const {
    return {.id = SlotId{1},
            .base = slot_.begin,
            .pages = slot_.pages,
            .hva = Hva(reinterpret_cast<uintptr_t>(entries_))};
  }
  Gpa root() const { return ToGpa(layout_.TableGfn(0, kRootLevel)); }

 private:
  size_t bytes() const { return slot_.pages << kPageShift; }

  void Build(const Layout::Entry& entry) {
    constexpr uint64_t kBits = pte::kPresent | pte::kWritable | pte::kUser |
                               pte::kAccessed | pte::kDirty;
    Gfn target(entry.gfn);
    for (Level level = Level::k4K; level <= kRootLevel; level = Above(level)) {
      const Gfn table = layout_.TableGfn(entry.page, level);
      entries_[(table - slot_.begin) * kEntriesPerTable +
               IndexAt(entry.gva(), level)] = ToGpa(target).value() | kBits;
      target = table;
    }
  }

  const Layout& layout_;
  const GfnRange slot_;
  uint64_t* entries_ = nullptr;
};

void RunIndirect(benchmark::State& state, uint64_t aliases, uint64_t gfns,
                 MapKind map) {
  const Layout layout = Layout::Indirect(aliases, gfns, map);
  const GuestTables tables(layout);
  BenchVm vm(layout.tables());
  vm.AddSlot(layout.slots()[0]);
  vm.AddSlot(tables.slot());
  VcpuMmu& vcpu = vm.AddVcpu();
  const absl::Status four_levels =
      vcpu.SetRegisters({.cr0 = cr0::kPe | cr0::kWp | cr0::kPg,
                         .cr3 = tables.root().value(),
                         .cr4 = cr4::kPae,
                         .efer = efer::kLme | efer::kLma | efer::kNxe});
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
