// A task state segment in memory, of 16 or 32 bits (APM vol. 2, 12.2.4; SDM
// vol. 3, 7.2.1, 7.6): its layout, and the task that it holds.
//
//              32-bit                16-bit
//   link       0                     0
//   CR3        0x1c                  -
//   rIP        0x20                  0x0e
//   rFLAGS     0x24                  0x10
//   gpr        0x28, rAX to rDI      0x12
//   segments   0x48, ES to GS        0x22, ES to DS
//   LDT        0x60                  0x2a
//   T          0x64 bit 0            -
//
// Thread safety: pure functions, but for the bus.

#ifndef HYPERVISOR_EMULATE_TSS_H_
#define HYPERVISOR_EMULATE_TSS_H_

#include <array>
#include <cstdint>

#include "emulate/cpu_state.h"
#include "emulate/guest_bus.h"
#include "shadowmmu/address.h"

namespace hypervisor {

enum class TssWidth : uint8_t { k16Bit, k32Bit };

// Bytes that a TSS has at least.
constexpr unsigned TssBytes(TssWidth width) {
  return width == TssWidth::k32Bit ? 0x68 : 0x2c;
}

// A task as its TSS holds it.
struct TaskImage {
  uint32_t cr3 = 0;  // 32-bit only
  uint32_t rip = 0;
  uint32_t rflags = 0;
  std::array<uint32_t, 8> gpr = {};
  // By SegmentName; FS and GS are null in a 16-bit one.
  std::array<uint16_t, 6> selectors = {};
  uint16_t ldt = 0;
  bool debug_trap = false;  // T
};

BusResult ReadTask(GuestBus& bus, shadowmmu::Gva tss, TssWidth width,
                   TaskImage& image);

// The part of a TSS that a switch away from its task writes: rIP to the last
// segment.
BusResult WriteTask(GuestBus& bus, shadowmmu::Gva tss, TssWidth width,
                    const TaskImage& image);
BusResult ProbeWriteTask(GuestBus& bus, shadowmmu::Gva tss, TssWidth width);

BusResult WriteLink(GuestBus& bus, shadowmmu::Gva tss, uint16_t selector);

}  // namespace hypervisor

#endif  // HYPERVISOR_EMULATE_TSS_H_
