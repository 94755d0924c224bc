#include "devices/test_device.h"

namespace hypervisor {
namespace {

constexpr uint16_t kData = 0xe0;
constexpr uint16_t kDataPorts = 4;
constexpr uint16_t kLines = 0x2000;
constexpr uint16_t kLinePorts = 24;

}  // namespace

TestDevice::TestDevice(SystemInterrupts& interrupts)
    : interrupts_(interrupts), memory_(kMemoryBytes) {}

void TestDevice::AttachTo(IoBus& ports) {
  ports.Attach(kData, kDataPorts, this);
  ports.Attach(kLines, kLinePorts, this);
}

void TestDevice::AttachTo(MmioBus& mmio) {
  mmio.Attach(shadowmmu::Gpa(kMemoryBase), kMemoryBytes, this);
}

uint32_t TestDevice::In(uint16_t port, unsigned bytes) {
  if (port >= kLines) return ~uint32_t{0};
  const unsigned first = port % kDataPorts;
  uint32_t value = 0;
  for (unsigned i = 0; i < bytes; ++i) {
    const uint32_t byte = first + i < data_.size() ? data_[first + i] : 0xff;
    value |= byte << (8 * i);
  }
  return value;
}

void TestDevice::Out(uint16_t port, unsigned bytes, uint32_t value) {
  if (port >= kLines) {
    const unsigned gsi = port - kLines;
    interrupts_.line(gsi).Set(value != 0 ? Signal::kHigh : Signal::kLow);
    return;
  }
  const unsigned first = port % kDataPorts;
  for (unsigned i = 0; i < bytes && first + i < data_.size(); ++i) {
    data_[first + i] = static_cast<uint8_t>(value >> (8 * i));
  }
}

uint64_t TestDevice::Read(uint64_t offset, unsigned bytes) {
  uint64_t value = 0;
  for (unsigned i = 0; i < bytes; ++i) {
    value |= uint64_t{memory_[offset + i]} << (8 * i);
  }
  return value;
}

void TestDevice::Write(uint64_t offset, unsigned bytes, uint64_t value) {
  for (unsigned i = 0; i < bytes; ++i) {
    memory_[offset + i] = static_cast<uint8_t>(value >> (8 * i));
  }
}

}  // namespace hypervisor
