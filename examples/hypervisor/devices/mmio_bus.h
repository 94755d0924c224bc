// Guest physical addresses that belong to devices.
//
// The run loop brings here every access to a guest physical address that no
// memory slot backs. Where no device is either, reads give all ones and writes
// are lost: absent memory on a PC.
//
// Invariants:
//  1. The ranges of two devices do not overlap, but for those that a guest has
//     moved.
//  2. Read() returns zeros above the bytes that were asked for.
//
// Thread safety: none; attach before the guest runs.

#ifndef HYPERVISOR_DEVICES_MMIO_BUS_H_
#define HYPERVISOR_DEVICES_MMIO_BUS_H_

#include <cstdint>
#include <vector>

#include "shadowmmu/address.h"

namespace hypervisor {

class MmioDevice {
 public:
  virtual ~MmioDevice() = default;

  // An access of `bytes` (1 to 8) that lies within the device's range.
  // `offset` is from the range's start.
  virtual uint64_t Read(uint64_t offset, unsigned bytes) = 0;
  virtual void Write(uint64_t offset, unsigned bytes, uint64_t value) = 0;
};

class MmioBus {
 public:
  // Gives `device` the addresses [first, first + bytes). It must outlive the
  // bus, and none of the addresses may have an owner.
  void Attach(shadowmmu::Gpa first, uint64_t bytes, MmioDevice* device);

  // The range of `device`, which is attached, begins at `first` from now on.
  // Where it overlaps another, that one answers.
  void Move(const MmioDevice* device, shadowmmu::Gpa first);

  // `bytes` is 1 to 8. An access that is not wholly within one device's range
  // goes nowhere: all ones.
  uint64_t Read(shadowmmu::Gpa gpa, unsigned bytes);
  void Write(shadowmmu::Gpa gpa, unsigned bytes, uint64_t value);

 private:
  struct Range {
    shadowmmu::Gpa first;
    uint64_t bytes;
    MmioDevice* device;
  };

  // The range that holds all of [gpa, gpa + bytes), or nullptr.
  const Range* Find(shadowmmu::Gpa gpa, unsigned bytes) const;

  std::vector<Range> ranges_;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_DEVICES_MMIO_BUS_H_
