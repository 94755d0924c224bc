// Interrupt lines, and what stands at their end.
//
// A device holds an IrqLine and drives its level; an interrupt controller owns
// the other end. A controller towards the CPU is an InterruptSource: the run
// loop asks Pending(), and when the CPU takes the interrupt, Acknowledge() is
// the interrupt acknowledge cycle that yields the vector.
//
// Thread safety: none.

#ifndef HYPERVISOR_DEVICES_INTERRUPTS_H_
#define HYPERVISOR_DEVICES_INTERRUPTS_H_

#include <cstdint>

namespace hypervisor {

enum class Signal : uint8_t { kLow, kHigh };

class IrqLine {
 public:
  virtual ~IrqLine() = default;

  // Drives the line. Setting the level it has changes nothing.
  virtual void Set(Signal signal) = 0;
};

class InterruptSource {
 public:
  virtual ~InterruptSource() = default;

  // The controller's INTR output: there is an interrupt for the CPU.
  virtual bool Pending() = 0;
  // The CPU takes it: returns the vector, and what was requested is now in
  // service. With nothing pending, the controller's spurious vector.
  virtual uint8_t Acknowledge() = 0;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_DEVICES_INTERRUPTS_H_
