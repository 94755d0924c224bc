// The guest's I/O ports: who answers which.
//
// A device attaches to a run of ports and is then told of every IN and OUT
// there. As on a PC, a port that nobody owns reads as all ones, and what is
// written there is lost.
//
// Most devices of a PC are 8 bits wide: the bus turns a wider access to one
// into byte accesses to consecutive ports, each of which goes to the port's own
// device. So a device that says PortWidth::kByte only ever sees bytes == 1.
//
// Invariants:
//  1. Runs of ports do not overlap.
//  2. In() returns zeros above the bytes that were asked for.
//
// Thread safety: none; attach before the guest runs.

#ifndef HYPERVISOR_DEVICES_IO_BUS_H_
#define HYPERVISOR_DEVICES_IO_BUS_H_

#include <cstdint>
#include <vector>

namespace hypervisor {

// What size of access a device takes.
enum class PortWidth : uint8_t { kByte, kAny };

class PortDevice {
 public:
  virtual ~PortDevice() = default;

  // An IN or OUT of `bytes` (1, 2 or 4) whose first port is `port`, one of the
  // ports that the device is attached to. `value` is zero above its bytes.
  virtual uint32_t In(uint16_t port, unsigned bytes) = 0;
  virtual void Out(uint16_t port, unsigned bytes, uint32_t value) = 0;

  virtual PortWidth Width() const { return PortWidth::kByte; }
};

class IoBus {
 public:
  // Gives `device` the ports [first, first + count). It must outlive the bus,
  // and none of the ports may have an owner.
  void Attach(uint16_t first, uint16_t count, PortDevice* device);

  // `bytes` is 1, 2 or 4. Ports wrap at 64 Ki.
  uint32_t In(uint16_t port, unsigned bytes);
  void Out(uint16_t port, unsigned bytes, uint32_t value);

 private:
  struct Range {
    uint16_t first;
    uint16_t last;
    PortDevice* device;
  };

  // The owner of `port`, or nullptr.
  PortDevice* Find(uint16_t port) const;

  std::vector<Range> ranges_;  // ordered by port
};

}  // namespace hypervisor

#endif  // HYPERVISOR_DEVICES_IO_BUS_H_
