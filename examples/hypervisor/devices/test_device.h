// A device for test images: places to write and read, and interrupts by hand.
//
// What QEMU's pc-testdev offers to images that test hypervisors:
//   0xe0 to 0xe3        four bytes that read back what was written, by accesses
//                       of 1, 2 or 4 bytes
//   0x2000 to 0x2017    one port a global system interrupt: a write other than
//                       0 raises the line, 0 lowers it
//   0xff000000, 64 KiB  memory that is not RAM: every access is emulated
// Page flushing (0xe4) and the like are not needed: writes vanish.
//
// Thread safety: none.

#ifndef HYPERVISOR_DEVICES_TEST_DEVICE_H_
#define HYPERVISOR_DEVICES_TEST_DEVICE_H_

#include <array>
#include <cstdint>
#include <vector>

#include "devices/io_bus.h"
#include "devices/mmio_bus.h"
#include "devices/system_interrupts.h"

namespace hypervisor {

class TestDevice : public PortDevice, public MmioDevice {
 public:
  static constexpr uint64_t kMemoryBase = 0xff000000;
  static constexpr uint64_t kMemoryBytes = 0x10000;

  explicit TestDevice(SystemInterrupts& interrupts);

  // Takes its ports, and its addresses on a CPU's bus.
  void AttachTo(IoBus& ports);
  void AttachTo(MmioBus& mmio);

  uint32_t In(uint16_t port, unsigned bytes) override;
  void Out(uint16_t port, unsigned bytes, uint32_t value) override;
  PortWidth Width() const override { return PortWidth::kAny; }

  uint64_t Read(uint64_t offset, unsigned bytes) override;
  void Write(uint64_t offset, unsigned bytes, uint64_t value) override;

 private:
  SystemInterrupts& interrupts_;
  std::array<uint8_t, 4> data_ = {};
  std::vector<uint8_t> memory_;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_DEVICES_TEST_DEVICE_H_
