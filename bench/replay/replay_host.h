// ReplayHost: the hypervisor's side of the replay: a plain Linux process
// (DefaultHost), whose one CPU can see the tables and is flushed when the
// library says so.
//
//  1. Physical addresses are addresses of this process.
//  2. Only memory for tables can be walked: anything else is a broken table.
//  3. A kick has nobody to reach: the one vCPU is out of the guest whenever the
//     library is called.
//
// Thread safety: as Host, but for SetCpu, which comes first.

#ifndef SHADOWMMU_BENCH_REPLAY_REPLAY_HOST_H_
#define SHADOWMMU_BENCH_REPLAY_REPLAY_HOST_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"
#include "bench/replay/replay_cpu.h"
#include "shadowmmu/default_host.h"
#include "tests/harness/physical_memory.h"

namespace shadowmmu::replay {

class ReplayHost : public DefaultHost, public testing::PhysicalMemory {
 public:
  // Not owned.
  void SetCpu(ReplayCpu* cpu) { cpu_ = cpu; }

  // Where a CPU that has translated to `hpa` finds guest memory.
  static std::byte* PointerTo(Hpa hpa) {
    return reinterpret_cast<std::byte*>(hpa.value());
  }

  // ---- Host ----
  absl::StatusOr<TableMemory> AllocateTables(uint32_t tables) override;
  void FlushTlb(const VcpuSet& set, FlushRange range) override;

  // ---- PhysicalMemory ----
  void* PointerToTable(Hpa hpa) const override;

 private:
  ReplayCpu* cpu_ = nullptr;
  HvaRange tables_;
};

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_REPLAY_HOST_H_
