// ReplayCpu: the CPU that runs the guest: the tests' CPU model, whose TLB keeps
// what it has until it is flushed, with a FrontTlb before it.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_BENCH_REPLAY_REPLAY_CPU_H_
#define SHADOWMMU_BENCH_REPLAY_REPLAY_CPU_H_

#include <cstdint>
#include <optional>
#include <string>

#include "bench/replay/front_tlb.h"
#include "shadowmmu/access.h"
#include "shadowmmu/address.h"
#include "shadowmmu/host.h"
#include "shadowmmu/vcpu_mmu.h"
#include "tests/harness/cpu_model.h"
#include "tests/harness/physical_memory.h"

namespace shadowmmu::replay {

class ReplayCpu {
 public:
  // `memory` is not owned.
  ReplayCpu(const testing::PhysicalMemory* memory, const EntryFormat& format)
      : model_(memory, format) {}

  // As CpuModel::Enter.
  std::string Enter(const HardwareState& state);

  // Would the model's TLB let this user access through?
  bool FrontAllows(Gva gva, AccessType type) const {
    return front_.Allows(gva, type);
  }
  // As CpuModel::Access.
  testing::CpuResult Access(Gva gva, const shadowmmu::Access& access,
                            testing::CpuModel::Body body);

  void Flush(FlushRange range);

  // Walks of the shadow tables.
  uint64_t walks() const { return model_.walks(); }

 private:
  testing::CpuModel model_;
  FrontTlb front_;
  std::optional<HardwareState> loaded_;
};

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_REPLAY_CPU_H_
