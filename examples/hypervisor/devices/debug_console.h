// A debug console: a port where every byte written is printed.
//
// Bochs has it at 0xe9, PC firmware for virtual machines writes to 0x402. A
// read gives 0xe9, by which a guest knows that it is there.
//
// Thread safety: none.

#ifndef HYPERVISOR_DEVICES_DEBUG_CONSOLE_H_
#define HYPERVISOR_DEVICES_DEBUG_CONSOLE_H_

#include <cstdint>
#include <functional>
#include <utility>

#include "devices/io_bus.h"

namespace hypervisor {

class DebugConsole : public PortDevice {
 public:
  explicit DebugConsole(std::function<void(char)> sink)
      : sink_(std::move(sink)) {}

  uint32_t In(uint16_t /*port*/, unsigned /*bytes*/) override { return 0xe9; }
  void Out(uint16_t /*port*/, unsigned /*bytes*/, uint32_t value) override {
    sink_(static_cast<char>(value));
  }

 private:
  const std::function<void(char)> sink_;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_DEVICES_DEBUG_CONSOLE_H_
