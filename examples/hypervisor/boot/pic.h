// The host's two 8259A interrupt controllers, silenced: the firmware leaves
// their timer interrupt on vector 8, a double fault's (datasheet of the 8259A).
//
// Thread safety: used once, at boot.

#ifndef HYPERVISOR_BOOT_PIC_H_
#define HYPERVISOR_BOOT_PIC_H_

#include <cstdint>

#include "boot/cpu.h"
#include "boot/trap.h"

namespace hypervisor {

// Masks every line, and moves the vectors of spurious interrupts, which no mask
// stops, to kPicVectors.
inline void SilencePics() {
  constexpr uint16_t kMaster = 0x20;
  constexpr uint16_t kSlave = 0xa0;
  constexpr uint8_t kIcw1 = 0x11;  // cascaded, ICW4 follows
  constexpr uint8_t kIcw4 = 0x01;  // 8086 mode
  PortOut8(kMaster, kIcw1);
  PortOut8(kSlave, kIcw1);
  PortOut8(kMaster + 1, kPicVectors);
  PortOut8(kSlave + 1, kPicVectors + 8);
  PortOut8(kMaster + 1, 1u << 2);  // the slave's line
  PortOut8(kSlave + 1, 2);         // the slave's number
  PortOut8(kMaster + 1, kIcw4);
  PortOut8(kSlave + 1, kIcw4);
  PortOut8(kMaster + 1, 0xff);
  PortOut8(kSlave + 1, 0xff);
}

constexpr bool IsPicVector(uint64_t vector) {
  return vector >= kPicVectors && vector < kPicVectors + 16;
}

}  // namespace hypervisor

#endif  // HYPERVISOR_BOOT_PIC_H_
