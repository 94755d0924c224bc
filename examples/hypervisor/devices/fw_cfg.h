// The fw_cfg interface: how guest firmware, and test images, ask what the
// machine has.
//
// QEMU's specification "QEMU Firmware Configuration (fw_cfg) Device". A key is
// written to port 0x510 (16 bits), then the item is read byte by byte at 0x511;
// past its end, and for a key that has no item, there are zeros. No DMA.
//
//   0x00 signature "QEMU"            0x11 kernel image: none. Zeros are also
//   0x01 features: 1, ports only          right for images that take this key
//   0x03 RAM, bytes (64 bits)             for a limit of RAM: no limit
//   0x04 no graphics: 1 (16 bits)    0x14 length of the command line, NUL and
//   all 0x05 CPUs (16 bits)              0x15 command line 0x0f most CPUs (16
//   bits)         0x19 file directory: no files
//
// Thread safety: none.

#ifndef HYPERVISOR_DEVICES_FW_CFG_H_
#define HYPERVISOR_DEVICES_FW_CFG_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "devices/io_bus.h"

namespace hypervisor {

class FwCfg : public PortDevice {
 public:
  static constexpr uint16_t kFirstPort = 0x510;
  static constexpr uint16_t kPorts = 2;

  FwCfg(uint64_t memory_bytes, uint16_t cpus, std::string_view command_line);

  uint32_t In(uint16_t port, unsigned bytes) override;
  void Out(uint16_t port, unsigned bytes, uint32_t value) override;
  PortWidth Width() const override { return PortWidth::kAny; }

 private:
  // Adds an item of `bytes` bytes, little endian.
  void AddNumber(uint16_t key, uint64_t value, unsigned bytes);

  std::map<uint16_t, std::string> items_;
  uint16_t key_ = 0;
  size_t offset_ = 0;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_DEVICES_FW_CFG_H_
