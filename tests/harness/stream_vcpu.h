// StreamVcpu: one vCPU of an op-stream: a VcpuMmu, the CPU that runs it, and
// the hypervisor's loop between them. Unlike GuestVcpu it can stay in the guest
// while other ops run, which is what makes remote flushes and kicks matter.
//
//  1. It is in the guest between a successful Enter and Leave. Calls of the
//     library that are not allowed there leave first and enter again after.
//  2. A kick only asks: one more access is made in the guest before the CPU
//     leaves for it, and enters again.
//  3. An access takes at most kMaxRounds rounds of entering and faulting; more
//     is reported as broken, since a fault resolved for ever is a bug.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_TESTS_HARNESS_STREAM_VCPU_H_
#define SHADOWMMU_TESTS_HARNESS_STREAM_VCPU_H_

#include <cstdint>
#include <memory>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "shadowmmu/access.h"
#include "shadowmmu/address.h"
#include "shadowmmu/vcpu_mmu.h"
#include "tests/harness/backend.h"
#include "tests/harness/cpu_model.h"
#include "tests/harness/test_host.h"

namespace shadowmmu::testing {

class StreamVcpu {
 public:
  static constexpr uint32_t kMaxRounds = 64;

  // `host` is not owned and must outlive this.
  StreamVcpu(TestHost* host, std::unique_ptr<VcpuMmu> mmu);
  ~StreamVcpu();
  StreamVcpu(const StreamVcpu&) = delete;
  StreamVcpu& operator=(const StreamVcpu&) = delete;

  // Already there: kResume, and nothing happens.
  OpResult Enter();
  void Leave();
  bool in_guest() const { return in_guest_; }
  // A kick that somebody waits for, on this very thread: it leaves at once, in
  // the middle of the library's call; comes back after it.
  void LeaveForAWhile();
  void ComeBack();
  // On its way back into the guest: what it did outside is over.
  bool returning() const { return returning_; }

  // One access of the guest; `body` touches the memory of one that goes
  // through. Ends in the guest only if it began there.
  OpResult Touch(Gva gva, const Access& access, CpuModel::Body body);

  // Runs `call` outside the guest, and enters again if it was inside.
  OpResult Outside(absl::FunctionRef<void(VcpuMmu&, OpResult&)> call);

  const PagingRegisters& registers() const { return mmu_->registers(); }
  VcpuId id() const { return mmu_->id(); }
  CpuModel& cpu() { return cpu_; }

 private:
  enum class Next : uint8_t { kDone, kAgain };
  Next Round(Gva gva, const Access& access, CpuModel::Body body,
             OpResult* result);
  Next EnterOnce(OpResult* result);
  // After an op: back to where it began.
  void Return(bool inside, OpResult* result);

  TestHost* const host_;
  const std::unique_ptr<VcpuMmu> mmu_;
  CpuModel cpu_;
  bool in_guest_ = false;
  bool returning_ = false;
  bool kick_seen_ = false;
  bool comes_back_ = false;
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_STREAM_VCPU_H_
