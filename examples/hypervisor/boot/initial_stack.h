// The main stack, and what a new process finds on it: argc, argv, the
// environment and the auxiliary vector (System V ABI, AMD64, 3.4.1).
//
// Thread safety: used once, at boot.

#ifndef HYPERVISOR_BOOT_INITIAL_STACK_H_
#define HYPERVISOR_BOOT_INITIAL_STACK_H_

#include <cstddef>
#include <string_view>

#include "shadowmmu/address.h"

namespace hypervisor {

inline constexpr size_t kMainStackBytes = size_t{2} << 20;
inline constexpr size_t kMaxArguments = 128;

// Writes the words of `command_line` (module.h) as argv[1] and so on, and the
// rest, and gives the stack pointer that _start expects. Ends the hypervisor if
// there are more than kMaxArguments words.
shadowmmu::Hva BuildInitialStack(std::string_view command_line);

// The 2 MiB page below the main stack, that must not be mapped.
shadowmmu::Hva MainStackGuard();

}  // namespace hypervisor

#endif  // HYPERVISOR_BOOT_INITIAL_STACK_H_
