// GuestVcpu: one virtual CPU as a hypervisor would run it: a VcpuMmu of the
// library and a CpuModel, and the loop of vcpu_mmu.h between them.
//
//   GuestVcpu vcpu(&vcpu_mmu, &cpu);
//   TouchResult touched = vcpu.Touch(gva, Write(Privilege::kUser));
//
// Rules:
//  1. A touch is one access of the guest, entered, repeated after each fault
//     that the library resolved, and left again. Between touches the vCPU is
//     never in the guest.
//  2. A kick that comes between EnterGuest and the access makes it leave and
//     enter again.
//  3. The number of rounds is bounded; a touch that needs more has its own
//     result, since a fault that is "resolved" for ever is a bug.
//
// The caller attaches the CPU to its host (TestHost::Attach), so that flushes
// reach it.
//
// Thread safety: one thread at a time per object, as VcpuMmu.

#ifndef SHADOWMMU_TESTS_HARNESS_GUEST_VCPU_H_
#define SHADOWMMU_TESTS_HARNESS_GUEST_VCPU_H_

#include <cstdint>
#include <functional>
#include <iosfwd>
#include <string>
#include <utility>

#include "shadowmmu/access.h"
#include "shadowmmu/address.h"
#include "shadowmmu/fault.h"
#include "shadowmmu/vcpu_mmu.h"
#include "tests/harness/cpu_model.h"

namespace shadowmmu::testing {

struct TouchResult {
  enum class Kind : uint8_t {
    kHit,      // the access went through, at `hpa`
    kOutcome,  // it ended as `outcome`, which is neither resume nor retry
    kDidNotConverge,  // kMaxRounds were not enough; `outcome` is the last one
    kBroken,          // the shadow tables are broken; `broken` says how
  };
  Kind kind = Kind::kBroken;
  Hpa hpa{};
  Level level = Level::k4K;  // of the page that the CPU used
  bool from_tlb = false;     // the CPU made no walk for the access that hit
  FaultOutcome outcome{};
  std::string broken{};
  uint32_t faults = 0;  // page faults that this touch took

  bool hit() const { return kind == Kind::kHit; }
  // Did it end as an outcome of `kind`?
  bool EndedAs(FaultOutcome::Kind outcome_kind) const {
    return kind == Kind::kOutcome && outcome.kind == outcome_kind;
  }
};
std::ostream& operator<<(std::ostream& os, const TouchResult& result);

class GuestVcpu {
 public:
  // Rounds of entering, accessing and resolving that one touch may take.
  static constexpr uint32_t kMaxRounds = 64;

  struct Counts {
    uint64_t touches = 0;
    uint64_t entries = 0;  // successful EnterGuest calls
    uint64_t faults = 0;   // HandleFault calls
    uint64_t kicks = 0;    // entries left again because of a kick
  };
  // Sees each outcome of HandleFault before the touch goes on.
  using OutcomeHook = std::function<void(Gva, const FaultOutcome&)>;

  // Neither is owned; both must outlive this.
  GuestVcpu(VcpuMmu* mmu, CpuModel* cpu) : mmu_(mmu), cpu_(cpu) {}

  TouchResult Touch(Gva gva, const Access& access);
  // The same; when the access goes through, `body` touches the memory at its
  // address, in one step with the translation (CpuModel::Access).
  TouchResult Touch(Gva gva, const Access& access, CpuModel::Body body);

  void SetOutcomeHook(OutcomeHook hook) { hook_ = std::move(hook); }

  VcpuMmu& mmu() { return *mmu_; }
  CpuModel& cpu() { return *cpu_; }
  const Counts& counts() const { return counts_; }

 private:
  enum class Next : uint8_t { kDone, kAgain };
  // One round: enter, access, leave, resolve. `result` is complete when it
  // says kDone; `result->outcome` is the last outcome in any case.
  Next Round(Gva gva, const Access& access, CpuModel::Body body,
             TouchResult* result);
  Next Judge(const CpuResult& done, const Access& access, TouchResult* result);
  static Next After(TouchResult* result);

  VcpuMmu* const mmu_;
  CpuModel* const cpu_;
  Counts counts_;
  OutcomeHook hook_;
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_GUEST_VCPU_H_
