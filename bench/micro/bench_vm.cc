#include "bench/micro/bench_vm.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "bench/micro/options.h"
#include "shadowmmu/audit.h"
#include "src/base/check.h"

namespace shadowmmu::bench {
namespace {

// A fault wants room before it knows what it needs, and each vCPU may hold
// roots: none of that may ever cause an eviction here.
constexpr uint32_t kSpareTables = 128;

std::unique_ptr<Mmu> MakeMmu(Host* host, uint32_t tables,
                             const BenchVm::Settings& settings) {
  auto mmu = Mmu::Create({.host = host,
                          .table_capacity = tables + kSpareTables,
                          .max_vcpus = BenchVm::kMostVcpus,
                          .previous_roots = settings.previous_roots,
                          .write_flooding = settings.write_flooding,
                          .prefetch = settings.prefetch,
                          .time_lock_holds = settings.time_lock_holds});
  SMMU_CHECK(mmu.ok()) << mmu.status().ToString();
  return *std::move(mmu);
}

}  // namespace

BenchVm::BenchVm(uint32_t tables, const Settings& settings)
    : mmu_(MakeMmu(&host_, tables, settings)) {}

BenchVm::BenchVm(const Layout& layout) : BenchVm(layout.tables()) {
  for (const GfnRange& gfns : layout.slots()) AddSlot(gfns);
}

void BenchVm::AddSlot(const SlotSpec& spec) {
  const absl::Status made = mmu_->CreateSlot(spec);
  SMMU_CHECK(made.ok()) << made.ToString();
  ++slots_;
}

void BenchVm::AddSlot(GfnRange gfns) {
  AddSlot(Untouched(SlotId{slots_}, gfns));
}

SlotSpec BenchVm::Untouched(SlotId id, GfnRange gfns) {
  const Pfn first = kFirstPfn + gfns.begin.value();
  return {.id = id,
          .base = gfns.begin,
          .pages = gfns.pages,
          .hva = Hva(first.value() << kPageShift)};
}

VcpuMmu& BenchVm::AddVcpu() {
  auto vcpu = mmu_->CreateVcpu(static_cast<VcpuId>(vcpus_.size()));
  SMMU_CHECK(vcpu.ok()) << vcpu.status().ToString();
  vcpus_.push_back(*std::move(vcpu));
  return *vcpus_.back();
}

void BenchVm::PassThroughGuest(VcpuMmu& vcpu) {
  SMMU_CHECK(vcpu.EnterGuest().resume());
  vcpu.ExitGuest();
}

std::string BenchVm::ExpectSptes(uint64_t sptes) const {
  const Stats stats = mmu_->GetStats();
  if (stats.pages_evicted != 0) {
    return absl::StrCat(stats.pages_evicted, " pages were evicted");
  }
  if (stats.leaf_sptes != sptes) {
    return absl::StrCat("there are ", stats.leaf_sptes, " sptes, not ", sptes);
  }
  if (!TheOptions().small()) return "";
  const AuditReport report = Audit(*mmu_);
  return report.ok() ? "" : "the audit: " + report.violations.front();
}

uint64_t MemoryInUse(Vm& vm) {
  const VmLock held(vm);
  const uint64_t tables = vm.arena.tables_in_use();
  uint64_t bytes = tables * (kPageSize + sizeof(ShadowPage));
  bytes +=
      uint64_t{vm.arena.translations().in_use()} * sizeof(TranslationArray);
  bytes += uint64_t{vm.lists.descriptors().in_use()} * sizeof(PteListDesc);
  bytes +=
      uint64_t{vm.lists.back_references().pool().in_use()} * sizeof(PlaceArray);
  bytes += vm.pages.bytes();
  vm.slot_table().ForEach(
      [&](const Memslot& slot) { bytes += slot.rmaps->bytes(); });
  return bytes;
}

}  // namespace shadowmmu::bench
