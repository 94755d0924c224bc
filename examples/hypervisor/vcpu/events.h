// Events: what is to be delivered to the guest at the next entry, and what was
// being delivered when it exited (APM vol. 2, 8.2.9, 15.7.2, 15.20).
//
//  1. An exception that is raised while another is being delivered becomes a
//     double fault, a shutdown, or takes the other's place, by table 8-4.
//  2. An interrupt that was acknowledged, and whose delivery was cut short by
//  an
//     exception, is delivered after it, when interrupts are on again.
//  3. What a software interrupt, INT3 or INTO was to do is not remembered: RIP
//     is still there, and the guest executes it anew.
//  4. From the delivery of an NMI to the IRET of its handler no other is
//     delivered; one waits, and those after it are the same.
//
// Thread safety: belongs to one vCPU.

#ifndef HYPERVISOR_VCPU_EVENTS_H_
#define HYPERVISOR_VCPU_EVENTS_H_

#include <cstdint>
#include <optional>

#include "emulate/exception.h"

namespace hypervisor {

// RFLAGS.IF, or an interrupt shadow, which keeps NMIs off, too.
enum class InterruptFlag : uint8_t { kClear, kSet, kShadow };

class Events {
 public:
  // After an exit: Vmcb::exit_int_info. What it says is delivered again, unless
  // an exception comes in between.
  void TakeExitIntInfo(uint64_t info);
  // The exit itself has delivered what was under way (a task switch).
  void Forget();

  void Raise(const Exception& exception);
  // An interrupt that the interrupt controller has been told is taken.
  void Interrupt(uint8_t vector);

  void Nmi() { nmi_waits_ = true; }
  // The handler's IRET is done.
  void EndNmi() { nmi_blocked_ = false; }

  // Whether an interrupt may be acknowledged: nothing else is to be delivered.
  bool Idle() const { return !exception_ && !interrupt_ && !NmiDue(); }
  bool NmiWaits() const { return nmi_waits_; }
  bool NmiBlocked() const { return nmi_blocked_; }
  // One waits, and no handler runs.
  bool NmiDue() const { return nmi_waits_ && !nmi_blocked_; }
  // An exception was raised while a double fault was being delivered.
  bool shutdown() const { return shutdown_; }

  // What waits, if it may be delivered, as a value of Vmcb::event_injection; 0:
  // nothing. It is under way from then on.
  uint64_t Next(InterruptFlag flag);
  // Something waits that Next would not deliver with interrupts off.
  bool InterruptWaits() const { return interrupt_.has_value(); }
  // CR2 as the exception that Next returned last wants it.
  std::optional<uint64_t> cr2() const { return cr2_; }

 private:
  std::optional<Exception> exception_;
  std::optional<uint8_t> interrupt_;
  // The interrupt's delivery was under way, and nothing has come in between.
  bool interrupt_accepted_ = false;
  bool nmi_waits_ = false;
  bool nmi_blocked_ = false;
  std::optional<uint64_t> cr2_;
  bool shutdown_ = false;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_VCPU_EVENTS_H_
