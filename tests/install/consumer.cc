// What a first program against the installed library looks like: it sees the
// public headers and nothing of the source tree.

#include <cstdio>
#include <cstdlib>

#include "absl/strings/string_view.h"
#include "shadowmmu/audit.h"
#include "shadowmmu/check_handler.h"
#include "shadowmmu/default_host.h"
#include "shadowmmu/dump.h"
#include "shadowmmu/mmu.h"
#include "shadowmmu/vcpu_mmu.h"

namespace {

void Log(absl::string_view message) {
  std::fprintf(stderr, "hypervisor: %.*s\n", static_cast<int>(message.size()),
               message.data());
}

// Maps one page, and takes it away again.
bool MapsAPage() {
  using shadowmmu::Gva;
  alignas(shadowmmu::kPageSize) static char ram[16 * shadowmmu::kPageSize];
  shadowmmu::DefaultHost host;
  auto mmu = shadowmmu::Mmu::Create(
      {.host = &host, .table_capacity = 64, .max_vcpus = 1});
  if (!mmu.ok()) return false;
  const shadowmmu::SlotSpec slot{
      .pages = 16, .hva = shadowmmu::Hva(reinterpret_cast<uintptr_t>(ram))};
  if (!(*mmu)->CreateSlot(slot).ok()) return false;
  auto vcpu = (*mmu)->CreateVcpu(shadowmmu::VcpuId{0});
  if (!vcpu.ok()) return false;
  const bool mapped =
      (*vcpu)->HandleFault(Gva(0x1000), shadowmmu::Write()).resume() &&
      shadowmmu::Dump(**mmu).leaves.size() == 1;
  (*mmu)->InvalidateAll();
  return mapped && (*mmu)->GetStats().leaf_sptes == 0 &&
         shadowmmu::Audit(**mmu).ok();
}

}  // namespace

int main() {
  shadowmmu::SetCheckHandler(&Log);
  if (!MapsAPage()) return 1;
  if (shadowmmu::SetCheckHandler(nullptr) != &Log) return 1;
  std::puts("consumer: ok");
  return 0;
}
