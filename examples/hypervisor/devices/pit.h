// A PC's 8254 timer and system control port B.
//
// Ports 0x40 to 0x43: counter 0 drives IRQ 0, counter 1 (memory refresh in its
// day) drives nothing, counter 2 the speaker. Port 0x61: counter 2's gate (bit
// 0) and output (bit 5), the speaker's switch (bit 1), and the refresh toggle
// (bit 4, every 15 us), by which old code waits.
//
// Counter 0's interrupt is the rising edge of OUT. The line of IRQ 0 then stays
// high until the next edge, instead of following OUT down: see Pic about lines
// that fall.
//
// Invariants:
//  1. However many ticks have gone by unseen, Advance() makes one edge: ticks
//     coalesce in the interrupt controller as on a PC that keeps interrupts
//     off. The counts themselves lose nothing.
//  2. Edges of a periodic counter 0 are at least kShortestPeriod apart.
//
// Thread safety: none.

#ifndef HYPERVISOR_DEVICES_PIT_H_
#define HYPERVISOR_DEVICES_PIT_H_

#include <array>
#include <cstdint>
#include <optional>

#include "devices/clock.h"
#include "devices/interrupts.h"
#include "devices/io_bus.h"
#include "devices/pit_channel.h"

namespace hypervisor {

class Pit : public PortDevice {
 public:
  static constexpr uint64_t kHertz = 1'193'182;
  // Nanoseconds.
  static constexpr uint64_t kShortestPeriod = 20'000;

  Pit(Clock& clock, IrqLine& irq0);

  // Takes its ports.
  void AttachTo(IoBus& bus);

  uint32_t In(uint16_t port, unsigned bytes) override;
  void Out(uint16_t port, unsigned bytes, uint32_t value) override;

  // The Clock time of counter 0's next edge.
  std::optional<uint64_t> NextEvent();
  // Makes the edge that is due.
  void Advance();

 private:
  uint64_t Ticks();
  void WriteControl(uint8_t value);
  void WriteControlPortB(uint8_t value);
  uint8_t ReadControlPortB();

  Clock& clock_;
  IrqLine& irq0_;
  std::array<PitChannel, 3> channels_;
  uint8_t control_port_b_ = 0;  // its bits that can be written
  uint64_t seen_ = 0;           // the tick up to which edges have been seen
  bool owed_ = false;           // an edge was seen and has not been made
  uint64_t last_edge_ = 0;      // Clock time
};

}  // namespace hypervisor

#endif  // HYPERVISOR_DEVICES_PIT_H_
