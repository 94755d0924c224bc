// The interrupt descriptor table (APM vol. 2, 8.9.1): every vector goes to its
// stub of trap_stubs.S, exceptions and interrupts on a stack each (segments.h).
//
// Thread safety: made once, at boot; then constant, and the same for every CPU.

#ifndef HYPERVISOR_BOOT_IDT_H_
#define HYPERVISOR_BOOT_IDT_H_

namespace hypervisor {

// Called once, at boot.
void InitIdt();

// Makes this CPU use it. Its Segments must be loaded.
void LoadIdt();

}  // namespace hypervisor

#endif  // HYPERVISOR_BOOT_IDT_H_
