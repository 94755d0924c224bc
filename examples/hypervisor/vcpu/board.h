// Board: the guest's devices (devices/machine.h), which all vCPUs share, behind
// one lock.
//
//  1. The lock is held for one access to a device, and for nothing else: no
//  call
//     of the library's, no wait. What devices are told to tell others (serial
//     port, end of the guest) is called under it, and must not come back.
//  2. A vCPU that another one's access, or the time that another one sees pass,
//     gives something to do has news then (host/run_states.h). The one that
//     calls is told by Look.
//
// Thread safety: any thread; `vcpu` is the one that the thread runs.

#ifndef HYPERVISOR_VCPU_BOARD_H_
#define HYPERVISOR_VCPU_BOARD_H_

#include <array>
#include <cstdint>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "boot/per_cpu.h"
#include "devices/clock.h"
#include "devices/machine.h"
#include "host/run_states.h"
#include "shadowmmu/address.h"

namespace hypervisor {

// What a vCPU waits for, if it waits.
enum class Posture : uint8_t {
  kRuns,
  kHalted,           // for an interrupt, or an NMI
  kStuck,            // halted with interrupts off: for an NMI
  kWaitsForStartup,  // for a start-up interrupt, and nothing else
};

class Board {
 public:
  // `clock` and `states` outlive this.
  Board(Clock& clock, Machine::Config config, RunStates& states);

  unsigned vcpus() const { return vcpus_; }

  // What there is for a vCPU. NMI, INIT and start-up are told once; an NMI not
  // before the vCPU has been started.
  struct News {
    bool interrupt = false;  // Acknowledge would give one
    bool nmi = false;
    bool init = false;
    std::optional<uint8_t> startup;
    std::optional<uint64_t> next_event;  // on the clock: look again then
    // Every vCPU is stuck, or waits to be started: nothing will ever happen.
    bool all_stuck = false;
  };
  News Look(unsigned vcpu, Posture posture) ABSL_LOCKS_EXCLUDED(lock_);
  // The vCPU takes an interrupt, if there is one still; nullopt: there is none.
  // `more` says whether there is another one.
  std::optional<uint8_t> Acknowledge(unsigned vcpu, bool* more)
      ABSL_LOCKS_EXCLUDED(lock_);

  uint32_t In(unsigned vcpu, uint16_t port, unsigned bytes)
      ABSL_LOCKS_EXCLUDED(lock_);
  void Out(unsigned vcpu, uint16_t port, unsigned bytes, uint32_t value)
      ABSL_LOCKS_EXCLUDED(lock_);
  uint64_t Read(unsigned vcpu, shadowmmu::Gpa gpa, unsigned bytes)
      ABSL_LOCKS_EXCLUDED(lock_);
  void Write(unsigned vcpu, shadowmmu::Gpa gpa, unsigned bytes, uint64_t value)
      ABSL_LOCKS_EXCLUDED(lock_);

  uint8_t TaskPriorityClass(unsigned vcpu) ABSL_LOCKS_EXCLUDED(lock_);
  void SetTaskPriorityClass(unsigned vcpu, uint8_t priority_class)
      ABSL_LOCKS_EXCLUDED(lock_);
  // APIC_BASE.
  void SetLocalApic(unsigned vcpu, LocalApic::GlobalEnable enable,
                    shadowmmu::Gpa base) ABSL_LOCKS_EXCLUDED(lock_);

  // A byte arrives at COM1.
  void ReceiveSerial(unsigned vcpu, char byte) ABSL_LOCKS_EXCLUDED(lock_);

 private:
  // Rule 2.
  void TellOthers(unsigned vcpu) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_);
  bool AllStuck() ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_);

  RunStates& states_;
  const unsigned vcpus_;
  absl::Mutex lock_;
  Machine machine_ ABSL_GUARDED_BY(lock_);
  std::array<Posture, kMaxCpus> postures_ ABSL_GUARDED_BY(lock_);
};

}  // namespace hypervisor

#endif  // HYPERVISOR_VCPU_BOARD_H_
