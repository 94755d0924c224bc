// A PC's two 8259As: sixteen interrupt lines, the slave on IR2 of the master.
//
// Ports 0x20, 0x21 (master), 0xa0, 0xa1 (slave), and the edge/level control
// registers 0x4d0, 0x4d1 (Intel 82371AB datasheet, 7.2), by which IRQ 0, 1, 2,
// 8 and 13 are always edge triggered.
//
// Invariants:
//  1. Before any question to the master is answered, its IR2 follows the
//     slave's INT output.
//  2. Each acknowledge of the slave drops its INT, so that the next one is an
//     edge on the master's IR2.
//
// Thread safety: none.

#ifndef HYPERVISOR_DEVICES_PIC_PAIR_H_
#define HYPERVISOR_DEVICES_PIC_PAIR_H_

#include <array>
#include <cstdint>

#include "devices/interrupts.h"
#include "devices/io_bus.h"
#include "devices/pic.h"

namespace hypervisor {

class PicPair : public PortDevice, public InterruptSource {
 public:
  static constexpr unsigned kLines = 16;

  PicPair();
  PicPair(const PicPair&) = delete;
  PicPair& operator=(const PicPair&) = delete;

  // Takes its ports.
  void AttachTo(IoBus& bus);

  // The end of line `irq`, 0 to 15, for a device to hold. Line 2 is the
  // cascade's own: what is set there vanishes.
  IrqLine& line(unsigned irq) { return lines_[irq]; }

  uint32_t In(uint16_t port, unsigned bytes) override;
  void Out(uint16_t port, unsigned bytes, uint32_t value) override;

  bool Pending() override { return master_.Pending(); }
  uint8_t Acknowledge() override;

 private:
  class Input : public IrqLine {
   public:
    void Connect(PicPair* pair, unsigned irq) {
      pair_ = pair;
      irq_ = irq;
    }
    void Set(Signal signal) override { pair_->SetLine(irq_, signal); }

   private:
    PicPair* pair_ = nullptr;
    unsigned irq_ = 0;
  };

  void SetLine(unsigned irq, Signal signal);
  // The slave's INT output, onto the master's IR2.
  void UpdateCascade();
  // The slave was acknowledged or polled: INT falls first.
  void PulseCascade();

  Pic master_;
  Pic slave_;
  std::array<Input, kLines> lines_;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_DEVICES_PIC_PAIR_H_
