// The prefixes of an instruction, as far as they go before its opcode.
//
// Capstone tells of prefixes too, but of one of each group only, and not what
// it made of them. The last of a group counts, and a REX prefix only right
// before the opcode (APM vol. 3, 1.2).
//
// Thread safety: pure functions.

#ifndef HYPERVISOR_EMULATE_PREFIX_SCAN_H_
#define HYPERVISOR_EMULATE_PREFIX_SCAN_H_

#include <cstdint>
#include <span>

#include "emulate/cpu_state.h"
#include "emulate/instruction.h"

namespace hypervisor {

inline constexpr uint8_t kLockPrefix = 0xf0;
inline constexpr uint8_t kDsPrefix = 0x3e;
inline constexpr uint8_t kOperandSizePrefix = 0x66;
inline constexpr uint8_t kAddressSizePrefix = 0x67;
inline constexpr uint8_t kRepnePrefix = 0xf2;
inline constexpr uint8_t kRepePrefix = 0xf3;

// Bits of a REX prefix.
inline constexpr uint8_t kRexR = 1u << 2;
inline constexpr uint8_t kRexW = 1u << 3;

struct ScannedPrefixes {
  Prefixes prefixes = {};
  unsigned count = 0;  // bytes
};

ScannedPrefixes ScanPrefixes(CpuMode mode, std::span<const uint8_t> code);

// The operand size that mode and prefixes give: 2, 4 or 8 (APM vol. 3, 1.2.2,
// 1.2.7). What an operation makes of it is another matter.
uint8_t OperandBytes(CpuMode mode, const Prefixes& prefixes);

}  // namespace hypervisor

#endif  // HYPERVISOR_EMULATE_PREFIX_SCAN_H_
