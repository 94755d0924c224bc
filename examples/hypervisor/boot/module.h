// What came with the hypervisor: the guest bundle (QEMU's -initrd) and the
// command line (-append).
//
// Thread safety: constant after boot.

#ifndef HYPERVISOR_BOOT_MODULE_H_
#define HYPERVISOR_BOOT_MODULE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "boot/start_info.h"

namespace hypervisor {

inline constexpr size_t kMaxCommandLine = 4096;

// Called once, at boot. Ends the hypervisor if the command line is longer than
// kMaxCommandLine or the module lies above 4 GiB.
void InitModule(const StartInfo& info);

// The first module, where the loader left it; empty if there is none.
std::span<const std::byte> BootModule();

// The command line as it was given. main() gets it in words: they end at
// blanks, but not at those between double quotes.
std::string_view BootCommandLine();

}  // namespace hypervisor

#endif  // HYPERVISOR_BOOT_MODULE_H_
