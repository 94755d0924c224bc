// HypervisorHost: the library's Host on a bare machine. Memory of the
// hypervisor is identity-mapped, so that hva, hpa and pointer are one number;
// guest memory is one block of it, always present, always writable.
//
//  1. Each vCPU runs on a CPU of its own. Who is to be kicked, or to flush, is
//     interrupted; to leave the guest is to flush (run_states.h).
//
// Thread safety: as Host asks.

#ifndef HYPERVISOR_HOST_HYPERVISOR_HOST_H_
#define HYPERVISOR_HOST_HYPERVISOR_HOST_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "absl/status/statusor.h"
#include "host/run_states.h"
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
  void NoteStall(const shadowmmu::Stall& stall) override;

  // Where the vCPUs are, for those who run them.
  RunStates& states() { return states_; }

 private:
  // Whether the naturally aligned block of `level` around `hva` is all guest
  // memory.
  bool Inside(shadowmmu::Hva hva, shadowmmu::Level level) const;

  const uint64_t begin_;
  const uint64_t end_;
  const shadowmmu::Level largest_;
  RunStates states_;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_HOST_HYPERVISOR_HOST_H_
