#include "devices/reset_control.h"

#include <utility>

namespace hypervisor {
namespace {

constexpr uint16_t kControlPortA = 0x92;
constexpr uint16_t kPciConfiguration = 0xcf8;
constexpr uint16_t kPciConfigurationPorts = 8;
constexpr uint16_t kResetControl = 0xcf9;

constexpr uint8_t kFastReset = 0x01;  // port 0x92
constexpr uint8_t kResetCpu = 0x04;   // port 0xcf9

}  // namespace

ResetControl::ResetControl(std::function<void()> reset)
    : reset_(std::move(reset)) {}

void ResetControl::AttachTo(IoBus& bus) {
  bus.Attach(kControlPortA, 1, this);
  bus.Attach(kPciConfiguration, kPciConfigurationPorts, this);
}

uint32_t ResetControl::In(uint16_t port, unsigned bytes) {
  if (port == kControlPortA && bytes == 1) return control_port_a_;
  if (port == kResetControl && bytes == 1) return reset_control_;
  return ~uint32_t{0};
}

void ResetControl::Out(uint16_t port, unsigned bytes, uint32_t value) {
  if (bytes != 1) return;
  if (port == kControlPortA) {
    WriteControlPortA(static_cast<uint8_t>(value));
  } else if (port == kResetControl) {
    WriteResetControl(static_cast<uint8_t>(value));
  }
}

void ResetControl::WriteControlPortA(uint8_t value) {
  const bool rises = (value & ~control_port_a_ & kFastReset) != 0;
  control_port_a_ = value;
  if (rises) reset_();
}

void ResetControl::WriteResetControl(uint8_t value) {
  const bool rises = (value & ~reset_control_ & kResetCpu) != 0;
  reset_control_ = value;
  if (rises) reset_();
}

}  // namespace hypervisor
