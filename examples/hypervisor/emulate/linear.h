// From a segment and an offset to a linear address, with the checks that the
// CPU makes on the way: canonical form in 64-bit mode, presence, type and limit
// of the segment elsewhere (APM vol. 2, 4.12, 5.3.1; SDM vol. 3, 5.3).
//
// Thread safety: pure functions.

#ifndef HYPERVISOR_EMULATE_LINEAR_H_
#define HYPERVISOR_EMULATE_LINEAR_H_

#include <cstddef>
#include <cstdint>

#include "emulate/cpu_state.h"
#include "emulate/guest_bus.h"
#include "emulate/instruction.h"
#include "shadowmmu/access.h"
#include "shadowmmu/address.h"

namespace hypervisor {

// `gva` counts if the result is kOk; otherwise it is the exception: #SS for the
// stack segment, else #GP.
struct Linear {
  BusResult result = {};
  shadowmmu::Gva gva = shadowmmu::Gva();
};

const Segment& SegmentOf(const CpuState& cpu, SegmentName name);
Segment& SegmentOf(CpuState& cpu, SegmentName name);

// CPL 3 is user, every other supervisor.
shadowmmu::Privilege PrivilegeOf(const CpuState& cpu);

// `bytes` (at least one) bytes at `offset` of a segment.
Linear LinearAddress(const CpuState& cpu, SegmentName name, uint64_t offset,
                     size_t bytes, shadowmmu::AccessType type);

// The same with no check: what INVLPG does, and the fetch after its own.
shadowmmu::Gva UncheckedAddress(const CpuState& cpu, SegmentName name,
                                uint64_t offset);
shadowmmu::Gva CodeAddress(const CpuState& cpu, uint64_t rip);

// How many bytes of code there are from `rip` to the limit of CS.
uint64_t BytesBelowLimit(const CpuState& cpu, uint64_t rip);

bool IsCanonical(const CpuState& cpu, uint64_t address);

// `rip` may be where execution goes on: else #GP(0).
BusResult CheckBranchTarget(const CpuState& cpu, uint64_t rip);

// What `memory` of `instruction` points at: base + index * scale +
// displacement, as wide as the instruction's addresses.
uint64_t EffectiveAddress(const CpuState& cpu, const Instruction& instruction,
                          const MemoryOperand& memory);

// `value` as far as `bytes` (1 to 8) bytes go, and the same with its sign.
constexpr uint64_t Truncate(uint64_t value, unsigned bytes) {
  return bytes >= 8 ? value : value & ((uint64_t{1} << (8 * bytes)) - 1);
}
constexpr uint64_t SignExtend(uint64_t value, unsigned bytes) {
  const unsigned shift = 64 - 8 * bytes;
  return static_cast<uint64_t>(static_cast<int64_t>(value << shift) >> shift);
}

// rIP to the next instruction: it is 32 bits wide outside 64-bit mode.
inline void AdvanceRip(CpuState& cpu, unsigned length) {
  cpu.rip = Truncate(cpu.rip + length, cpu.mode() == CpuMode::k64Bit ? 8 : 4);
}

}  // namespace hypervisor

#endif  // HYPERVISOR_EMULATE_LINEAR_H_
