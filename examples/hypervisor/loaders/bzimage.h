// Linux kernels, and what else comes as a bzImage: the Linux x86 boot protocol
// (Documentation/arch/x86/boot.rst), version 2.03 and later, by its 32-bit
// entry point.
//
//  1. What follows the file's setup sectors goes to code32_start, 1 MiB as a
//     rule, and is entered there; a relocatable kernel moves itself to where it
//     prefers to be. The memory that it will then use, [pref_address,
//     + init_size), must be RAM, and nothing of ours lies in it.
//  2. The zero page (boot_params: the setup header, the memory map), the
//     command line and the GDT lie at the top of low RAM; the initramfs as high
//     as the kernel allows.
//
// Thread safety: none; the memory's.

#ifndef HYPERVISOR_LOADERS_BZIMAGE_H_
#define HYPERVISOR_LOADERS_BZIMAGE_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "emulate/cpu_state.h"
#include "loaders/guest_image.h"
#include "loaders/guest_memory.h"

namespace hypervisor {

// Offsets in the file, and in the zero page, of the setup header's fields.
namespace setup_header {
inline constexpr uint64_t kBegin = 0x1f1;
inline constexpr uint64_t kSetupSectors = 0x1f1;        // 1 byte
inline constexpr uint64_t kSystemSize = 0x1f4;          // 4, in 16 bytes
inline constexpr uint64_t kVideoMode = 0x1fa;           // 2
inline constexpr uint64_t kBootFlag = 0x1fe;            // 2
inline constexpr uint64_t kJumpOffset = 0x201;          // 1: the header's end
inline constexpr uint64_t kMagic = 0x202;               // 4
inline constexpr uint64_t kVersion = 0x206;             // 2
inline constexpr uint64_t kLoaderType = 0x210;          // 1
inline constexpr uint64_t kLoadFlags = 0x211;           // 1
inline constexpr uint64_t kCode32Start = 0x214;         // 4
inline constexpr uint64_t kRamdiskImage = 0x218;        // 4
inline constexpr uint64_t kRamdiskSize = 0x21c;         // 4
inline constexpr uint64_t kCommandLinePointer = 0x228;  // 4
inline constexpr uint64_t kInitrdAddressMax = 0x22c;    // 4; 2.03
inline constexpr uint64_t kRelocatable = 0x234;         // 1; 2.05
inline constexpr uint64_t kCommandLineSize = 0x238;     // 4; 2.06
inline constexpr uint64_t kPreferredAddress = 0x258;    // 8; 2.10
inline constexpr uint64_t kInitSize = 0x260;            // 4; 2.10
inline constexpr uint64_t kLongestEnd = 0x290;          // what follows it

inline constexpr uint16_t kBootFlagValue = 0xaa55;
inline constexpr uint32_t kMagicValue = 0x53726448;  // "HdrS"
inline constexpr uint8_t kLoadedHigh = 1u << 0;      // of load flags
}  // namespace setup_header

// Offsets in the zero page of the rest (arch/x86/include/uapi/asm/bootparam.h).
namespace zero_page {
inline constexpr uint64_t kExtendedMemory = 0x002;  // 2, KiB from 1 MiB on
inline constexpr uint64_t kAltMemory = 0x1e0;       // 4, the same
inline constexpr uint64_t kE820Entries = 0x1e8;     // 1
inline constexpr uint64_t kE820Table = 0x2d0;       // 20 bytes each
inline constexpr uint64_t kBytes = 4096;
}  // namespace zero_page

// Selectors that a kernel expects (boot.rst, 32-bit boot protocol).
inline constexpr uint16_t kBootCs = 0x10;
inline constexpr uint16_t kBootDs = 0x18;

// Whether the file has the magic numbers of a setup header.
bool IsBzImage(std::span<const std::byte> file);

// Errors as of LoadGuest.
absl::StatusOr<CpuState> LoadBzImage(const GuestImage& image,
                                     const GuestMemoryView& memory);

}  // namespace hypervisor

#endif  // HYPERVISOR_LOADERS_BZIMAGE_H_
