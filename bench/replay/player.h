// Player: runs a trace's accesses in the process that runs now.
//
//  1. An access that the FrontTlb allows is done: the CPU would have found it
//     in its TLB. Any other goes to the CPU model, and what that cannot do goes
//     to the library and to the guest's kernel, until it is done.
//  2. With Mode::kChecked every access goes to the CPU model, and there to the
//     oracle; what the FrontTlb would have allowed must come out of the
//     model's TLB.
//  3. No data moves: a trace has none. A store into a frame that was a table,
//  and
//     that the library still tracks as one, is emulated, and stores a byte.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_BENCH_REPLAY_PLAYER_H_
#define SHADOWMMU_BENCH_REPLAY_PLAYER_H_

#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "bench/replay/guest_kernel.h"
#include "bench/replay/trace_access.h"
#include "bench/replay/virtual_cpu.h"
#include "shadowmmu/access.h"
#include "shadowmmu/address.h"

namespace shadowmmu::replay {

class Player {
 public:
  enum class Mode : uint8_t { kFast, kChecked };
  struct Counts {
    uint64_t accesses = 0;      // that were run
    uint64_t cpu_accesses = 0;  // pages that were put to the CPU model
    uint64_t emulated = 0;      // of these, stores that had to be emulated
  };

  // None is owned.
  Player(VirtualCpu* cpu, GuestKernel* kernel, Mode mode)
      : cpu_(cpu), kernel_(kernel), mode_(mode) {}

  // As VirtualCpu::Touch and GuestKernel::HandlePageFault.
  absl::Status Play(std::span<const TraceAccess> accesses);

  const Counts& counts() const { return counts_; }

 private:
  absl::Status PlaySlowly(const TraceAccess& access);
  absl::Status TouchPage(Gva gva, AccessType type);

  VirtualCpu* const cpu_;
  GuestKernel* const kernel_;
  const Mode mode_;
  Counts counts_;
};

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_PLAYER_H_
