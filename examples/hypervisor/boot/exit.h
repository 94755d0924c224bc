// The end of the hypervisor: through QEMU's isa-debug-exit device at port 0xf4,
// which ends QEMU with the status code * 2 + 1 (so its status is never 0).
// Where there is none, it says so and halts.
//
// Thread safety: any CPU, any context; the other CPUs end with this one.

#ifndef HYPERVISOR_BOOT_EXIT_H_
#define HYPERVISOR_BOOT_EXIT_H_

#include <string_view>

namespace hypervisor {

// Codes from 0 to 127; what exit() was given, modulo 128, or one of these,
// which say that the hypervisor itself has failed.
inline constexpr unsigned kExitAborted = 124;  // abort(): a failed CHECK
inline constexpr unsigned kExitImpossible =
    125;  // a boot or a call that cannot be
inline constexpr unsigned kExitException = 126;  // an exception in ring 0

[[noreturn]] void ExitMachine(unsigned code);

// Prints "hypervisor: ", `why` and a newline, and exits with kExitImpossible.
[[noreturn]] void ExitBecause(std::string_view why);

}  // namespace hypervisor

#endif  // HYPERVISOR_BOOT_EXIT_H_
