// Channel 2 of the host's 8254 interval timer: a clock whose frequency is known
// (datasheet of the 8254; port 0x61 gates the channel).
//
// Thread safety: one CPU.

#ifndef HYPERVISOR_BOOT_PIT_H_
#define HYPERVISOR_BOOT_PIT_H_

#include <cstdint>

#include "boot/cpu.h"

namespace hypervisor {

inline constexpr uint64_t kPitHertz = 1193182;

inline constexpr uint16_t kGatePort = 0x61;

// Starts a countdown from 0xffff, 54.9 ms long.
inline void PitStart() {
  constexpr uint8_t kGateOn = 0x01;
  constexpr uint8_t kSpeakerAndGate = 0x03;
  PortOut8(kGatePort, static_cast<uint8_t>(
                          (PortIn8(kGatePort) & ~kSpeakerAndGate) | kGateOn));
  PortOut8(0x43, 0xb0);  // channel 2, low byte then high, mode 0, binary
  PortOut8(0x42, 0xff);
  PortOut8(0x42, 0xff);
}

// Whether the countdown has ended: the channel's output, which stays high then,
// while the count goes on from 0xffff.
inline bool PitEnded() {
  constexpr uint8_t kOutput = 0x20;
  return (PortIn8(kGatePort) & kOutput) != 0;
}

// The count is the one of PitLatch's moment.
inline void PitLatch() { PortOut8(0x43, 0x80); }
inline uint16_t PitReadLatched() {
  const uint8_t low = PortIn8(0x42);
  return static_cast<uint16_t>(low | PortIn8(0x42) << 8);
}

}  // namespace hypervisor

#endif  // HYPERVISOR_BOOT_PIT_H_
