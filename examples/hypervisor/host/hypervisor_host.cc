#include "host/hypervisor_host.h"

#include <cstdio>

#include "absl/status/status.h"
#include "boot/cpu.h"

namespace hypervisor {
namespace {

using shadowmmu::Hva;
using shadowmmu::Level;

constexpr bool Has(uint32_t value, unsigned bit) {
  return (value >> bit & 1) != 0;
}

uint64_t BytesOf(Level level) {
  return shadowmmu::PagesPerEntry(level) * shadowmmu::kPageSize;
}

}  // namespace

HypervisorHost::HypervisorHost(std::span<std::byte> guest_memory, Level largest)
    : begin_(reinterpret_cast<uint64_t>(guest_memory.data())),
      end_(begin_ + guest_memory.size()),
      largest_(largest) {}

bool HypervisorHost::Inside(Hva hva, Level level) const {
  const uint64_t begin = hva.value() & ~(BytesOf(level) - 1);
  return begin >= begin_ && begin + BytesOf(level) <= end_;
}

absl::StatusOr<shadowmmu::HostPage> HypervisorHost::Resolve(
    Hva hva, shadowmmu::AccessType /*type*/) {
  const std::optional<shadowmmu::HostPage> page = TryResolve(hva);
  if (!page) return absl::NotFoundError("not guest memory");
  return *page;
}

std::optional<shadowmmu::HostPage> HypervisorHost::TryResolve(Hva hva) {
  if (!Inside(hva, Level::k4K)) return std::nullopt;
  shadowmmu::HostPage page;
  page.pfn = shadowmmu::Pfn(hva.value() >> shadowmmu::kPageShift);
  for (const Level level : {Level::k2M, Level::k1G}) {
    if (level <= largest_ && Inside(hva, level)) page.largest = level;
  }
  return page;
}

void HypervisorHost::Kick(const shadowmmu::VcpuSet& set) {
  states_.Recall(set);
}

void HypervisorHost::FlushTlb(const shadowmmu::VcpuSet& set,
                              shadowmmu::FlushRange /*range*/) {
  states_.AwaitExit(set);
}

void HypervisorHost::NoteStall(const shadowmmu::Stall& stall) {
  std::printf("hypervisor: %s waits for %s", stall.waiting, stall.for_whom);
  if (stall.vcpu) std::printf(" of vCPU %u", shadowmmu::ToInt(*stall.vcpu));
  std::printf(", since %llu ms\n",
              static_cast<unsigned long long>(stall.milliseconds));
}

// The bits of CPUID: APM vol. 3, appendix E.
shadowmmu::EntryFormat HypervisorHost::Format() const {
  const CpuidResult structured = ReadCpuidIfThere(7);
  const CpuidResult extended = ReadCpuidIfThere(0x80000001);
  const CpuidResult sizes = ReadCpuidIfThere(0x80000008);
  shadowmmu::EntryFormat format;
  if (sizes.eax != 0) format.physical_bits = sizes.eax & 0xff;
  format.has_no_execute = Has(extended.edx, 20);
  format.has_1g_pages = Has(extended.edx, 26);
  format.has_smep = Has(structured.ebx, 7);
  format.has_smap = Has(structured.ebx, 20);
  format.has_protection_keys = Has(structured.ecx, 3);
  format.has_five_levels = Has(structured.ecx, 16);
  return format;
}

}  // namespace hypervisor
