// Events: what is to be delivered to the guest at the next entry, and what was
// being delivered when it exited (APM vol. 2, 8.2.9, 15.7.2, 15.20).
//
//  1. An exception that is raised while another is being delivered becomes a
//     double fault, a shutdown, or takes the other's place, by table 8-4.
//  2. An interrupt that was acknowledged, and whose delivery was cut short by
//  an
//     exception, is delivered after it, when interrupts are on again.
//  3. After an NMI no other is delivered before IRET has been executed (15.20,
//     8.2.3); one more waits.
//  4. What a software interrupt, INT3 or INTO was to do is not remembered: RIP
//     is still there, and the guest executes it anew.
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

  // What Next returned last is a fault: the RFLAGS that its handler finds have
  // RF set, so that a breakpoint there is not met twice (8.3.2).
  bool Faults() const {
    return exception_ && exception_->vector != ExceptionVector::kDebug;
  }

  // An NMI has come.
  void Nmi() { nmi_ = true; }
  // NMIs are masked: IRET is to be told.
  bool NmiMasked() const { return nmi_masked_; }
  void UnmaskNmi() { nmi_masked_ = false; }
  bool NmiWaits() const { return nmi_; }
  // One waits, and is not masked.
  bool NmiDue() const { return nmi_ && !nmi_masked_; }

  // Whether an interrupt may be acknowledged: nothing else is to be delivered.
  bool Idle() const { return !exception_ && !interrupt_ && !NmiDue(); }
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
  std::optional<uint64_t> cr2_;
  bool nmi_ = false;
  // The delivery of an NMI was cut short.
  bool nmi_under_way_ = false;
  bool nmi_masked_ = false;
  bool shutdown_ = false;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_VCPU_EVENTS_H_
