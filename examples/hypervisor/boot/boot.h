// The first C++ that runs: makes of the bare machine what a C library expects
// of a process, and enters it. entry.S calls it, on a stack of its own, with
// interrupts off; it does not return.
//
// Thread safety: the boot CPU only.

#ifndef HYPERVISOR_BOOT_BOOT_H_
#define HYPERVISOR_BOOT_BOOT_H_

#include "boot/start_info.h"

extern "C" [[noreturn]] void BootMain(const hypervisor::StartInfo* info);

#endif  // HYPERVISOR_BOOT_BOOT_H_
