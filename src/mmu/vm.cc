#include "src/mmu/vm.h"

#include <algorithm>
#include <utility>

#include "src/base/check.h"
#include "src/base/no_memory.h"
#include "src/mmu/vcpu_state.h"

namespace shadowmmu {
namespace {

// A chain stays one until its last spte is gone, so in the worst case each spte
// has a descriptor to itself. 28 bits are the most that a Place can name.
uint32_t MaxDescriptors(uint32_t table_capacity) {
  const uint64_t sptes = uint64_t{table_capacity} * kEntriesPerTable;
  return static_cast<uint32_t>(std::min<uint64_t>(sptes, kMaxDescriptors - 1));
}

// Each costs who takes the MMU lock exclusively a look.
constexpr uint32_t kMaxStripes = 32;

}  // namespace

Vm::Vm(const MmuConfig& c, const EntryFormat& f)
    : config(c),
      host(*c.host),
      entry_format(f),
      format(f),
      slots(&host),
      memory(host),
      lock(LockRank::kVm, std::min(c.max_vcpus, kMaxStripes)),
      arena(host, c.table_capacity, format),
      lists(host, c.table_capacity, MaxDescriptors(c.table_capacity),
            c.max_vcpus + 1),
      pages(host, arena) {}

Vm::~Vm() {
  for (const LowPage& page : pae_pages) host.FreeLowPage(page);
}

ListNeeds InReserves(const Vm& vm) {
  ListNeeds reserved;
  for (const VcpuState* vcpu : vm.vcpus) {
    if (vcpu == nullptr) continue;
    reserved.descriptors += vcpu->writer.reserve.descriptors.count();
    reserved.place_arrays += vcpu->writer.reserve.place_arrays.count();
  }
  return reserved;
}

absl::Status Vm::Init() {
  if (config.time_lock_holds) lock.Measure(&lock_times);
  if (absl::Status got = arena.Init(); !got.ok()) return got;
  if (config.page_limit != 0) arena.SetLimit(config.page_limit);
  if (!lists.Init() || !pages.Init()) {
    return NoMemory("table_capacity: no memory for the hash and the pools");
  }
  vcpus.assign(config.max_vcpus, nullptr);
  pae_pages.reserve(config.max_vcpus / kPaeRootsPerPage + 1);
  while (pae_pages.size() * kPaeRootsPerPage < config.max_vcpus) {
    absl::StatusOr<LowPage> page = host.AllocateLowPage();
    if (!page.ok()) return page.status();
    pae_pages.push_back(*page);
    const uint64_t hpa = page->hpa.value();
    if (hpa % kPageSize != 0 || hpa >> 32 != 0) {
      return absl::InvalidArgumentError(
          "Host::AllocateLowPage: hpa is no page below 4 GiB");
    }
  }
  return absl::OkStatus();
}

}  // namespace shadowmmu
