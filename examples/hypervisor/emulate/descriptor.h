// Segment descriptors as the GDT and LDT hold them: how they are found by a
// selector, read, and marked (APM vol. 2, 4.7, 4.8; SDM vol. 3, 3.4).
//
// The CPU reads its tables as a supervisor, whatever the CPL is.
//
// Thread safety: pure functions, but for the bus.

#ifndef HYPERVISOR_EMULATE_DESCRIPTOR_H_
#define HYPERVISOR_EMULATE_DESCRIPTOR_H_

#include <cstdint>
#include <optional>

#include "emulate/cpu_state.h"
#include "emulate/guest_bus.h"
#include "shadowmmu/address.h"

namespace hypervisor {

// A segment selector: index, table, requested privilege level.
namespace selector {
inline constexpr uint16_t kRpl = 3;
inline constexpr uint16_t kLdt = 1u << 2;  // TI
inline constexpr uint16_t kIndex = 0xfff8;
// RPL aside: a null selector has index 0 in the GDT.
constexpr bool IsNull(uint16_t value) { return (value & ~kRpl) == 0; }
}  // namespace selector

// Types of system segments outside 64-bit mode (S clear).
enum class SystemType : uint8_t {
  kTss16Available = 1,
  kLdt = 2,
  kTss16Busy = 3,
  kTss32Available = 9,
  kTss32Busy = 11,
};

// Accesses to system structures.
inline constexpr BusAccess kSystemRead = {shadowmmu::AccessType::kRead,
                                          shadowmmu::Privilege::kSupervisor,
                                          shadowmmu::Implicit::kYes};
inline constexpr BusAccess kSystemWrite = {shadowmmu::AccessType::kWrite,
                                           shadowmmu::Privilege::kSupervisor,
                                           shadowmmu::Implicit::kYes};

// Where the descriptor that `value` selects stands; nullopt: beyond the limit
// of its table, or in an LDT that is not there. A null selector is at the GDT's
// entry 0.
std::optional<shadowmmu::Gva> DescriptorAddress(const CpuState& cpu,
                                                uint16_t value);

// What a descriptor makes of a segment register.
Segment SegmentFrom(uint16_t value, uint64_t descriptor);

BusResult ReadDescriptor(GuestBus& bus, shadowmmu::Gva gva,
                         uint64_t& descriptor);

// Sets or clears bits of the descriptor's type, that is of its byte 5: the
// accessed bit of a code or data segment, the busy bit of a TSS. Another CPU
// may do the same at once.
BusResult ChangeDescriptorType(GuestBus& bus, shadowmmu::Gva gva, uint8_t set,
                               uint8_t clear);

// What a load leaves in a segment register in real and virtual-8086 mode.
inline void LoadRealModeSegment(Segment& segment, uint16_t value) {
  segment.selector = value;
  segment.base = uint64_t{value} << 4;
}

}  // namespace hypervisor

#endif  // HYPERVISOR_EMULATE_DESCRIPTOR_H_
