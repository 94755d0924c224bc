#include "src/mmu/vm.h"

#include <algorithm>
#include <utility>

#include "src/base/check.h"

namespace shadowmmu {
namespace {

constexpr unsigned kPaeRootsPerPage = kPageSize / 32;

// Chains hold every spte at most once, and all but the shortest fill their
// descriptors: half as many descriptors as sptes is more than enough, and 28
// bits are the most that a Place can name.
uint32_t MaxDescriptors(uint32_t table_capacity) {
  const uint64_t sptes = uint64_t{table_capacity} * kEntriesPerTable;
  return static_cast<uint32_t>(std::min<uint64_t>(sptes, kMaxDescriptors - 1));
}

}  // namespace

Vm::Vm(const MmuConfig& c)
    : config(c),
      host(*c.host),
      entry_format(host.Format()),
      format(entry_format),
      memory(host),
      arena(host, c.table_capacity, format),
      lists(host, c.table_capacity, MaxDescriptors(c.table_capacity)),
      pages(host, arena) {}

Vm::~Vm() {
  for (const LowPage& page : pae_pages) host.FreeLowPage(page);
}

absl::Status Vm::Init() {
  MutexLock guard(&lock);
  if (absl::Status got = arena.Init(); !got.ok()) return got;
  if (!lists.Init() || !pages.Init()) {
    return absl::ResourceExhaustedError(
        "table_capacity: no memory for the hash and the pools");
  }
  vcpus.assign(config.max_vcpus, nullptr);
  while (pae_pages.size() * kPaeRootsPerPage < config.max_vcpus) {
    absl::StatusOr<LowPage> page = host.AllocateLowPage();
    if (!page.ok()) return page.status();
    pae_pages.push_back(*page);
  }
  return absl::OkStatus();
}

}  // namespace shadowmmu
