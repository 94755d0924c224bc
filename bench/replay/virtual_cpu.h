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

#include <cstdint>

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
  FaultOutcome outcome;
  Hpa hpa;
  bool from_tlb = false;
};

class VirtualCpu {
 public:
  // Not owned; `checker` may be null: nothing is checked then.
  VirtualCpu(Machine* machine, FaultLog* log, Checker* checker)
      : machine_(machine), log_(log), checker_(checker) {}
  ~VirtualCpu() { Leave(); }
  VirtualCpu(const VirtualCpu&) = delete;
  VirtualCpu& operator=(const VirtualCpu&) = delete;

  // Long mode with the guest tables at `root`: a guest's write of CR3.
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
  // The store that the library asked to emulate.
  absl::Status Emulate(Gpa gpa, uint64_t value);

  uint64_t entries() const { return entries_; }

 private:
  FaultOutcome Resolve(Gva gva, const Access& access, uint32_t error_code);
  absl::StatusOr<Touched> End(Gva gva, const Access& access,
                              const Touched& touched);

  Machine* const machine_;
  FaultLog* const log_;
  Checker* const checker_;
  bool in_guest_ = false;
  uint64_t entries_ = 0;
};

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_VIRTUAL_CPU_H_
