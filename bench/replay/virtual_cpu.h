// VirtualCpu: the hypervisor's loop for the one vCPU: enter the guest, let it
// access memory, leave on a page fault, have the library resolve it, enter
// again.
//
// Rules:
//  1. The vCPU stays in the guest from access to access, and leaves it for
//     every call into the library.
//  2. FrontAllows may be believed only while it is in the guest: what is to be
//     flushed is flushed on entry.
//  3. A fault that has been "resolved" too often in a row is an error.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_BENCH_REPLAY_VIRTUAL_CPU_H_
#define SHADOWMMU_BENCH_REPLAY_VIRTUAL_CPU_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/replay/checker.h"
#include "bench/replay/fault_log.h"
#include "bench/replay/machine.h"
#include "shadowmmu/access.h"
#include "shadowmmu/address.h"
#include "shadowmmu/fault.h"
#include "tests/harness/cpu_model.h"

namespace shadowmmu::replay {

// How an access ended: kResume, and it hit `hpa`; or as a fault for the guest,
// or a store to be emulated.
struct Touched {
  FaultOutcome outcome = {};
  Hpa hpa{};
  bool from_tlb = false;
  // Faults on the way that were resolved though the page was mapped: the right
  // that was missing is there now.
  uint32_t forbidden = 0;
};

class VirtualCpu {
 public:
  struct Counts {
    uint64_t cr3_switches = 0;  // writes of CR3 that changed it
    uint64_t cr3_reloads = 0;   // others: to flush
    uint64_t invlpgs = 0;
  };

  // Not owned; `checker` may be null: nothing is checked then.
  VirtualCpu(Machine* machine, FaultLog* log, Checker* checker)
      : machine_(machine), log_(log), checker_(checker) {}
  ~VirtualCpu() { Leave(); }
  VirtualCpu(const VirtualCpu&) = delete;
  VirtualCpu& operator=(const VirtualCpu&) = delete;

  // The guest writes CR3: its tables are at `root`. The first time, the CPU is
  // brought into long mode with it.
  absl::Status Load(Gpa root);
  // Without effect if it is in the guest already. Internal: it cannot enter.
  absl::Status Enter();
  void Leave();

  // Only after Enter.
  bool FrontAllows(Gva gva, AccessType type) const {
    return machine_->cpu().FrontAllows(gva, type);
  }
  // One access within a page. `body` touches the memory of one that hits.
  // Internal: an outcome that no guest of this replay should cause.
  absl::StatusOr<Touched> Touch(Gva gva, const Access& access,
                                testing::CpuModel::Body body);
  absl::StatusOr<Touched> Touch(Gva gva, const Access& access) {
    return Touch(gva, access, [](Hpa) {});
  }

  // The guest executes INVLPG.
  void Invlpg(Gva gva);
  // The store that the library asked to emulate, within a page.
  absl::Status Emulate(Gpa gpa, std::span<const std::byte> bytes);
  absl::Status Emulate(Gpa gpa, uint64_t value) {
    return Emulate(gpa, std::as_bytes(std::span<const uint64_t, 1>(&value, 1)));
  }

  uint64_t entries() const { return entries_; }
  const Counts& counts() const { return counts_; }

 private:
  FaultOutcome Resolve(Gva gva, const Access& access, uint32_t error_code);
  absl::StatusOr<Touched> End(Gva gva, const Access& access,
                              const Touched& touched);

  Machine* const machine_;
  FaultLog* const log_;
  Checker* const checker_;
  bool in_guest_ = false;
  bool loaded_ = false;  // the first root
  uint64_t entries_ = 0;
  Counts counts_;
};

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_VIRTUAL_CPU_H_
