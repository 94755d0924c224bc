// What Capstone calls things, and what we call them: registers and operations.
//
// Thread safety: pure functions.

#ifndef HYPERVISOR_EMULATE_CAPSTONE_MAP_H_
#define HYPERVISOR_EMULATE_CAPSTONE_MAP_H_

#include <capstone/capstone.h>

#include <cstdint>
#include <optional>

#include "emulate/instruction.h"
#include "emulate/operation.h"

namespace hypervisor {

// nullopt: a register that no operation of ours has (x87, MMX, SSE,
// AVX).
std::optional<RegisterOperand> RegisterFrom(x86_reg reg);

// By Capstone's number of the instruction alone. MOVSD and CMPSD, which are two
// instructions each, are the string ones here; moves of XMM registers are in
// emulate/xmm_form.h.
Operation OperationFrom(unsigned id);

}  // namespace hypervisor

#endif  // HYPERVISOR_EMULATE_CAPSTONE_MAP_H_
