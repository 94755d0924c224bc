// Which move between memory and an XMM register an opcode is (APM vol. 4,
// appendix A).
//
// The prefix that belongs to such an opcode is the last of F2 and F3, wherever
// it stands, or else 66. Capstone 4 takes account of it only in some places, so
// these opcodes are looked up here.
//
// Thread safety: pure functions.

#ifndef HYPERVISOR_EMULATE_XMM_FORM_H_
#define HYPERVISOR_EMULATE_XMM_FORM_H_

#include <cstdint>
#include <optional>
#include <span>

#include "emulate/instruction.h"
#include "emulate/operation.h"

namespace hypervisor {

struct XmmForm {
  enum class Direction : uint8_t { kLoad, kStore };
  Operation operation = Operation::kMovXmm;
  Direction direction = Direction::kLoad;
  uint8_t bytes = 16;
  uint8_t reg = 0;  // 0 to 15
};

// `opcode` is the instruction from its opcode on. nullopt: no such move, or its
// other operand is no memory.
std::optional<XmmForm> XmmFormOf(const Prefixes& prefixes,
                                 std::span<const uint8_t> opcode);

}  // namespace hypervisor

#endif  // HYPERVISOR_EMULATE_XMM_FORM_H_
