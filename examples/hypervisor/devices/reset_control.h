// The ways to reset a PC that are not the keyboard controller's, and the PCI
// configuration ports that one of them lies among.
//
// Port 0x92, system control port A: bit 0 resets, bit 1 is the fast A20 gate,
// which is remembered and gates nothing. Port 0xcf9, the reset control register
// of PC chipsets: bit 2 going high resets; only a byte access reaches it,
// others to 0xcf8-0xcff are configuration cycles (Intel 82371AB
// datasheet, 4.2.6.2). No PCI bus is there, so those read as all ones.
//
// Thread safety: none.

#ifndef HYPERVISOR_DEVICES_RESET_CONTROL_H_
#define HYPERVISOR_DEVICES_RESET_CONTROL_H_

#include <cstdint>
#include <functional>

#include "devices/io_bus.h"

namespace hypervisor {

class ResetControl : public PortDevice {
 public:
  explicit ResetControl(std::function<void()> reset);

  // Takes its ports.
  void AttachTo(IoBus& bus);

  uint32_t In(uint16_t port, unsigned bytes) override;
  void Out(uint16_t port, unsigned bytes, uint32_t value) override;
  // So that a wide configuration access is not taken for a byte at 0xcf9.
  PortWidth Width() const override { return PortWidth::kAny; }

 private:
  void WriteControlPortA(uint8_t value);
  void WriteResetControl(uint8_t value);

  const std::function<void()> reset_;
  uint8_t control_port_a_ = 0x02;  // A20 is open
  uint8_t reset_control_ = 0;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_DEVICES_RESET_CONTROL_H_
