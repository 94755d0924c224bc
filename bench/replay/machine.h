// Machine: the virtual machine of a replay: memory in several slots, an Mmu,
// and one vCPU with its CPU.
//
//   slot 0        slot 1        ...        slot N-1
//   [0, p)   gap  [q, q + p)    ...        frames of the guest; q = p rounded
//   up
//                                          to 2 MiB, and 2 MiB more
//
// Besides the library's slots it keeps a list of its own (memory()), which the
// oracle goes by.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_BENCH_REPLAY_MACHINE_H_
#define SHADOWMMU_BENCH_REPLAY_MACHINE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/replay/host_region.h"
#include "bench/replay/replay_cpu.h"
#include "bench/replay/replay_host.h"
#include "bench/replay/stop_watch.h"
#include "shadowmmu/address.h"
#include "shadowmmu/memslot.h"
#include "shadowmmu/mmu.h"
#include "shadowmmu/vcpu_mmu.h"
#include "tests/harness/guest_memory.h"

namespace shadowmmu::replay {

inline constexpr unsigned kGuestPhysicalBits = 48;

class Machine {
 public:
  struct Options {
    uint32_t slots = 1;           // at least 1
    uint64_t pages_per_slot = 0;  // at least 1
    uint32_t table_capacity = 4096;
    // MmuConfig's.
    uint32_t previous_roots = kMaxPreviousRoots;
    bool unsync = true;
    uint32_t write_flooding = MmuConfig().write_flooding;
    SlotZapPolicy slot_zap = SlotZapPolicy::kAuto;  // of ReplaceSlot
  };
  // What a slot's replacement cost.
  struct SlotTimes {
    Nanoseconds remove{};  // Mmu::DeleteSlot
    Nanoseconds add{};     // Mmu::CreateSlot
  };

  // ResourceExhausted, or what the library says.
  static absl::StatusOr<std::unique_ptr<Machine>> Create(
      const Options& options);
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  Mmu& mmu() { return *mmu_; }
  VcpuMmu& vcpu() { return *vcpu_; }
  ReplayCpu& cpu() { return cpu_; }
  const ReplayHost& host() const { return host_; }

  testing::GuestMemory& memory() { return memory_; }
  const testing::GuestMemory& memory() const { return memory_; }
  const std::vector<SlotSpec>& slots() const { return memory_.slots(); }

  // Deletes a slot, moves its memory to other host addresses, and creates the
  // slot again over it: the same frames, the same content. The vCPU is not in
  // the guest, and its guest never sees the gap.
  absl::StatusOr<SlotTimes> ReplaceSlot(SlotId id);

 private:
  explicit Machine(SlotZapPolicy slot_zap);
  absl::Status Init(const Options& options);

  const SlotZapPolicy slot_zap_;
  std::vector<HostRegion> regions_;  // by slot id
  ReplayHost host_;
  testing::GuestMemory memory_{&host_};
  ReplayCpu cpu_;
  std::unique_ptr<Mmu> mmu_;
  std::unique_ptr<VcpuMmu> vcpu_;
};

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_MACHINE_H_
