// A guest is a file with a GuestMain, and this runtime: no C library, no
// constructors of static objects, interrupts disabled.
//
// It begins with an IDT (interrupts.h), and, in a 64-bit guest, with the first
// GiB mapped onto itself; a 32-bit guest begins without paging. UsePaging
// (address_space.h) gives it tables of its own.

#ifndef HYPERVISOR_GUESTS_RUNTIME_GUEST_H_
#define HYPERVISOR_GUESTS_RUNTIME_GUEST_H_

#include <stdint.h>

namespace guest {

// The guest's program, in namespace guest. Its return is its success; whatever
// fails calls Exit.
void GuestMain();

// What the boot loader told (Multiboot Specification 0.6.96, 3.3), as words.
const uint32_t* MultibootInformation();

// Whether the command line ends with the word "plain": this is plain QEMU,
// which does some things otherwise than the manuals say. Whoever asks says
// which.
bool IsPlainQemu();

}  // namespace guest

#endif  // HYPERVISOR_GUESTS_RUNTIME_GUEST_H_
