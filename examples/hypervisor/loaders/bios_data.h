// The BIOS data area: what firmware leaves at 0x400 of a PC's memory, as far as
// a kernel reads it that was entered in protected mode. Firmware is not there,
// so the loaders leave it. (IBM PC/AT Technical Reference, "BIOS Data Area".)
//
//   0x400   base ports of COM1 to COM4: COM1 alone is there
//   0x40e   segment of the extended BIOS data area: none
//   0x413   KiB of low RAM
//
// Thread safety: none; the memory's.

#ifndef HYPERVISOR_LOADERS_BIOS_DATA_H_
#define HYPERVISOR_LOADERS_BIOS_DATA_H_

#include "absl/status/status.h"
#include "loaders/guest_memory.h"

namespace hypervisor {

namespace bios_data {
inline constexpr GpaRange kArea = {shadowmmu::Gpa(0x400), 0x100};
inline constexpr shadowmmu::Gpa kCom1 = shadowmmu::Gpa(0x400);
inline constexpr shadowmmu::Gpa kLowRamKib = shadowmmu::Gpa(0x413);
}  // namespace bios_data

// Before the image: one that lies there has the memory.
absl::Status WriteBiosData(const GuestMemoryView& memory);

}  // namespace hypervisor

#endif  // HYPERVISOR_LOADERS_BIOS_DATA_H_
