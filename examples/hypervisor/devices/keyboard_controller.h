// A PC's 8042 keyboard controller, with nothing plugged in.
//
// Ports 0x60 (data) and 0x64 (status and commands); IBM PC/AT Technical
// Reference, "Keyboard Controller". Present rather than absent because guests
// wait for it: an input buffer that never empties (status 0xff) costs a second
// here and a hang there. Every command is carried out at once, so a probe ends
// at once too: the self test passes, the mouse port does not exist, and a byte
// for the keyboard is answered as the controller does when no keyboard replies:
// 0xfe with the time-out flag.
//
// Of the output port it has two wires: the CPU's reset, that guests pulse to
// restart, and the A20 gate, which is remembered and gates nothing.
//
// Invariants:
//  1. The input buffer is never full (status bit 1 is 0).
//  2. One byte waits to be read at most: a new one takes its place.
//
// Thread safety: none.

#ifndef HYPERVISOR_DEVICES_KEYBOARD_CONTROLLER_H_
#define HYPERVISOR_DEVICES_KEYBOARD_CONTROLLER_H_

#include <array>
#include <cstdint>
#include <functional>
#include <optional>

#include "devices/interrupts.h"
#include "devices/io_bus.h"

namespace hypervisor {

class KeyboardController : public PortDevice {
 public:
  // `reset` is called when the guest pulls the reset line.
  KeyboardController(IrqLine& irq1, std::function<void()> reset);

  // Takes its ports.
  void AttachTo(IoBus& bus);

  uint32_t In(uint16_t port, unsigned bytes) override;
  void Out(uint16_t port, unsigned bytes, uint32_t value) override;

 private:
  // A byte for the guest: from the controller itself, or as from the keyboard,
  // which interrupts.
  enum class Source : uint8_t { kController, kKeyboard, kNoReply };
  struct Output {
    uint8_t byte;
    Source source;
  };

  uint8_t Status() const;
  uint8_t ReadData();
  void WriteCommand(uint8_t command);
  void WriteData(uint8_t value);
  void WriteOutputPort(uint8_t value);
  void Put(uint8_t byte, Source source);
  void UpdateLine();

  IrqLine& irq1_;
  const std::function<void()> reset_;

  std::optional<Output> output_;
  std::array<uint8_t, 32> memory_ = {};  // [0] is the command byte
  uint8_t output_port_ = 0;
  // The command whose data byte comes next at port 0x60; 0: none.
  uint8_t command_ = 0;
  bool last_was_command_ = false;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_DEVICES_KEYBOARD_CONTROLLER_H_
