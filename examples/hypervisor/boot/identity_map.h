// What the hypervisor may do with memory: the identity map that entry.S made,
// made strict.
//
//  1. Pointer == physical address, for the first 4 GiB.
//  2. The image's code is executable and not writable, its constants are
//     neither; everything else is writable and not executable. (The linker puts
//     segments into pages of 2 MiB of their own.)
//  3. Not mapped, so that a touch is a page fault: the first 4 KiB (null
//     pointers), and the 2 MiB below the main stack.
//
// Thread safety: constant after boot.

#ifndef HYPERVISOR_BOOT_IDENTITY_MAP_H_
#define HYPERVISOR_BOOT_IDENTITY_MAP_H_

namespace hypervisor {

// Called once, at boot, when nothing below 4 KiB is needed any more.
void RestrictIdentityMap();

}  // namespace hypervisor

#endif  // HYPERVISOR_BOOT_IDENTITY_MAP_H_
