// The exit port: how a guest ends the run, with a status.
//
// Ports 0xf4 to 0xf7, as QEMU's isa-debug-exit has them: a write of `v` is a
// request to end. That device ends its process with (v << 1) | 1; here the sink
// gets v and decides. Reads give 0.
//
// Thread safety: none.

#ifndef HYPERVISOR_DEVICES_EXIT_PORT_H_
#define HYPERVISOR_DEVICES_EXIT_PORT_H_

#include <cstdint>
#include <functional>
#include <utility>

#include "devices/io_bus.h"

namespace hypervisor {

class ExitPort : public PortDevice {
 public:
  static constexpr uint16_t kFirstPort = 0xf4;
  static constexpr uint16_t kPorts = 4;

  explicit ExitPort(std::function<void(uint32_t code)> sink)
      : sink_(std::move(sink)) {}

  uint32_t In(uint16_t /*port*/, unsigned /*bytes*/) override { return 0; }
  void Out(uint16_t /*port*/, unsigned /*bytes*/, uint32_t value) override {
    sink_(value);
  }
  PortWidth Width() const override { return PortWidth::kAny; }

 private:
  const std::function<void(uint32_t code)> sink_;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_DEVICES_EXIT_PORT_H_
