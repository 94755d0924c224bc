// Physical memory that a guest gives to its page tables and pages: 4 KiB frames
// from 16 MiB up to 128 MiB. The first 256 MiB are always mapped onto
// themselves, so a frame can be used by its physical address. Any CPU may take
// them, and give them back, but no interrupt handler.

#ifndef HYPERVISOR_GUESTS_RUNTIME_FRAMES_H_
#define HYPERVISOR_GUESTS_RUNTIME_FRAMES_H_

#include <stdint.h>

#include "runtime/cpu.h"

namespace guest {

inline constexpr Word kPageBytes = 4096;
inline constexpr Word kFramesBegin = 16u << 20;
inline constexpr Word kFramesEnd = 128u << 20;
// Above, up to 256 MiB, is for who wants large pages.
inline constexpr Word kLargeFramesEnd = 256u << 20;

// A frame of zeros. Fails the guest if there is none.
Word AllocateFrame();
void FreeFrame(Word frame);
// Frames that are allocated.
unsigned FramesInUse();

template <typename T = uint32_t>
volatile T& PhysicalAt(Word address) {
  // The compiler believes that nothing lies at low addresses.
  asm("" : "+r"(address));
  return *reinterpret_cast<volatile T*>(address);
}

}  // namespace guest

#endif  // HYPERVISOR_GUESTS_RUNTIME_FRAMES_H_
