#include "bench/replay/replay_host.h"

namespace shadowmmu::replay {

absl::StatusOr<TableMemory> ReplayHost::AllocateTables(uint32_t tables) {
  absl::StatusOr<TableMemory> memory = DefaultHost::AllocateTables(tables);
  if (memory.ok()) {
    tables_ = {Hva(reinterpret_cast<uintptr_t>(memory->base)),
               uint64_t{memory->tables} * kPageSize};
  }
  return memory;
}

void ReplayHost::FlushTlb(const VcpuSet& set, FlushRange range) {
  DefaultHost::FlushTlb(set, range);
  if (cpu_ != nullptr) cpu_->Flush(range);
}

void* ReplayHost::PointerToTable(Hpa hpa) const {
  if (!tables_.Contains(Hva(hpa.value()))) return nullptr;
  return PointerTo(hpa);
}

}  // namespace shadowmmu::replay
