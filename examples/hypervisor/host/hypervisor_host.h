// HypervisorHost: the library's Host on a bare machine. Memory of the
// hypervisor is identity-mapped, so that hva, hpa and pointer are one number;
// guest memory is one block of it, always present, always writable.
//
//  1. There is one vCPU, and it runs on the CPU that calls the library: nobody
//     is to be kicked, and VMRUN flushes what the CPU has cached (QEMU), or is
//     asked to by TLB_CONTROL (vmcb_state.h).
//
// Thread safety: as Host asks.

#ifndef HYPERVISOR_HOST_HYPERVISOR_HOST_H_
#define HYPERVISOR_HOST_HYPERVISOR_HOST_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "absl/status/statusor.h"
#include "shadowmmu/default_host.h"

namespace hypervisor {

class HypervisorHost final : public shadowmmu::DefaultHost {
 public:
  // `largest`: of the pages that guest memory may be mapped with.
  HypervisorHost(std::span<std::byte> guest_memory, shadowmmu::Level largest);

  absl::StatusOr<shadowmmu::HostPage> Resolve(
      shadowmmu::Hva hva, shadowmmu::AccessType type) override;
  std::optional<shadowmmu::HostPage> TryResolve(shadowmmu::Hva hva) override;
  void Kick(const shadowmmu::VcpuSet& set) override;
  void FlushTlb(const shadowmmu::VcpuSet& set,
                shadowmmu::FlushRange range) override;
  shadowmmu::EntryFormat Format() const override;

 private:
  // Whether the naturally aligned block of `level` around `hva` is all guest
  // memory.
  bool Inside(shadowmmu::Hva hva, shadowmmu::Level level) const;

  const uint64_t begin_;
  const uint64_t end_;
  const shadowmmu::Level largest_;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_HOST_HYPERVISOR_HOST_H_
