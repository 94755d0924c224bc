// RunStates: where each vCPU is, as other CPUs may know it with no lock, and
// how they reach it.
//
//  1. A vCPU's `turn` is odd from before its last look at `recalled` until it
//     has left the guest. VMRUN flushes all that its CPU has cached of a guest
//     (QEMU), or is asked to by TLB_CONTROL (vmcb_state.h): a vCPU whose turn
//     is even has nothing.
//  2. Who wants it out stores `recalled`, then loads `turn`; who enters stores
//     `turn`, then loads `recalled`: at least one sees the other. So either the
//     turn is waited for, or the vCPU does not enter with the root that it had
//     been told (VcpuMmu::EnterGuest) before.
//  3. From Begin on the vCPU's CPU takes no interrupt before VMRUN: IF is
//  clear,
//     then GIF. One that comes there is pending when VMRUN sets both, and ends
//     the turn at once.
//  4. Begin to End takes no lock, and End comes before anything that may wait.
//     Who waits for a turn to end is out of the guest itself, so that two who
//     wait for each other do not wait.
//
// Thread safety: Bind to HasNews are for the thread that runs the vCPU; the
// rest, any thread, whatever locks it holds.

#ifndef HYPERVISOR_HOST_RUN_STATES_H_
#define HYPERVISOR_HOST_RUN_STATES_H_

#include <array>
#include <atomic>
#include <cstdint>

#include "boot/per_cpu.h"
#include "shadowmmu/host.h"

namespace hypervisor {

class RunStates {
 public:
  // The vCPU is run by the thread that calls, so by its CPU.
  void Bind(unsigned vcpu);

  // Before VcpuMmu::EnterGuest.
  void Prepare(unsigned vcpu);
  // After it. False: what it said may be over; the vCPU must not enter.
  bool Begin(unsigned vcpu);
  // Right after SvmRun.
  void End(unsigned vcpu);

  // News are what the vCPU must look at before it runs on: an interrupt, or the
  // end of the guest. Clear, look, and then ask again, with interrupts off:
  // news after that interrupt a HLT, or the guest.
  void ClearNews(unsigned vcpu);
  bool HasNews(unsigned vcpu) const;

  // The vCPU has news. Never waits.
  void Notify(unsigned vcpu);
  void NotifyAll();
  // Each leaves the guest soon, and asks EnterGuest again. Never waits.
  void Recall(const shadowmmu::VcpuSet& set);
  // The same, and waits until none of them is where it was. A turn that does
  // not end ends the hypervisor.
  void AwaitExit(const shadowmmu::VcpuSet& set);

 private:
  static constexpr uint32_t kNowhere = ~0u;
  struct alignas(64) State {
    std::atomic<uint64_t> turn = 0;
    std::atomic<bool> recalled = false;
    std::atomic<bool> news = false;
    std::atomic<uint32_t> cpu = kNowhere;
  };

  void Interrupt(const State& state);

  std::array<State, kMaxCpus> states_;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_HOST_RUN_STATES_H_
