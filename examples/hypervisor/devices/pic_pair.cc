#include "devices/pic_pair.h"

namespace hypervisor {
namespace {

constexpr uint16_t kMasterPorts = 0x20;
constexpr uint16_t kSlavePorts = 0xa0;
constexpr uint16_t kElcrPorts = 0x4d0;
constexpr uint8_t kMasterElcrMask = 0xf8;
constexpr uint8_t kSlaveElcrMask = 0xde;
constexpr unsigned kCascadeLine = 2;

}  // namespace

PicPair::PicPair()
    : master_(Pic::Role::kMaster, kMasterElcrMask),
      slave_(Pic::Role::kSlave, kSlaveElcrMask) {
  for (unsigned irq = 0; irq < kLines; ++irq) lines_[irq].Connect(this, irq);
}

void PicPair::AttachTo(IoBus& bus) {
  bus.Attach(kMasterPorts, 2, this);
  bus.Attach(kSlavePorts, 2, this);
  bus.Attach(kElcrPorts, 2, this);
}

uint32_t PicPair::In(uint16_t port, unsigned /*bytes*/) {
  switch (port) {
    case kMasterPorts:
    case kMasterPorts + 1:
      return master_.Read(port & 1);
    case kSlavePorts:
    case kSlavePorts + 1: {
      const bool was_pending = slave_.Pending();
      const uint8_t value = slave_.Read(port & 1);
      // A poll took the request.
      if (was_pending && !slave_.Pending()) PulseCascade();
      return value;
    }
    case kElcrPorts:
      return master_.edge_level_control();
    case kElcrPorts + 1:
      return slave_.edge_level_control();
    default:
      return 0xff;
  }
}

void PicPair::Out(uint16_t port, unsigned /*bytes*/, uint32_t value) {
  const uint8_t byte = static_cast<uint8_t>(value);
  switch (port) {
    case kMasterPorts:
    case kMasterPorts + 1:
      master_.Write(port & 1, byte);
      break;
    case kSlavePorts:
    case kSlavePorts + 1:
      slave_.Write(port & 1, byte);
      break;
    case kElcrPorts:
      master_.set_edge_level_control(byte);
      break;
    case kElcrPorts + 1:
      slave_.set_edge_level_control(byte);
      break;
    default:
      break;
  }
  UpdateCascade();
}

uint8_t PicPair::Acknowledge() {
  const bool from_slave = master_.PendingLine() == kCascadeLine;
  const uint8_t vector = master_.Acknowledge();
  if (!from_slave) return vector;
  const uint8_t slave_vector = slave_.Acknowledge();
  PulseCascade();
  return slave_vector;
}

void PicPair::SetLine(unsigned irq, Signal signal) {
  if (irq == kCascadeLine) return;
  if (irq < 8) {
    master_.SetInput(irq, signal);
  } else {
    slave_.SetInput(irq - 8, signal);
    UpdateCascade();
  }
}

void PicPair::UpdateCascade() {
  master_.SetInput(kCascadeLine,
                   slave_.Pending() ? Signal::kHigh : Signal::kLow);
}

void PicPair::PulseCascade() {
  master_.SetInput(kCascadeLine, Signal::kLow);
  UpdateCascade();
}

}  // namespace hypervisor
