// For boot/ and shim/: what they use in place of the C library.
//
//  1. Code of these two rooms runs before the C library has chosen its memcpy
//     and memset for this CPU, and inside system calls, whose callers expect
//     the SSE registers to live on. So it is compiled to use general registers
//     only and calls nothing outside the two rooms; the test
//     hypervisor/freestanding looks for symbols that say otherwise.
//  2. Its variables are initialised by constants: they are in use before
//     constructors run.
//
// Thread safety: functions of their arguments.

#ifndef HYPERVISOR_BOOT_FREESTANDING_H_
#define HYPERVISOR_BOOT_FREESTANDING_H_

#include <cstddef>
#include <cstdint>

namespace hypervisor {

// Sets `bytes` bytes at `at` to zero.
inline void ZeroBytes(void* at, size_t bytes) {
  __asm__ volatile("rep stosb" : "+D"(at), "+c"(bytes) : "a"(0) : "memory");
}

// Sets whole pages to zero, 64 bytes a step: under an emulator many times as
// fast as a string instruction. `at` and `bytes` are multiples of 4096.
inline void ZeroPages(void* at, size_t bytes) {
  auto* word = static_cast<volatile uint64_t*>(at);
  for (size_t i = 0; i < bytes / 8; i += 8) {
    word[i] = 0;
    word[i + 1] = 0;
    word[i + 2] = 0;
    word[i + 3] = 0;
    word[i + 4] = 0;
    word[i + 5] = 0;
    word[i + 6] = 0;
    word[i + 7] = 0;
  }
}

inline void CopyBytes(void* to, const void* from, size_t bytes) {
  __asm__ volatile("rep movsb"
                   : "+D"(to), "+S"(from), "+c"(bytes)
                   :
                   : "memory");
}

constexpr uint64_t AlignDown(uint64_t value, uint64_t alignment) {
  return value & ~(alignment - 1);
}
constexpr uint64_t AlignUp(uint64_t value, uint64_t alignment) {
  return AlignDown(value + alignment - 1, alignment);
}

}  // namespace hypervisor

#endif  // HYPERVISOR_BOOT_FREESTANDING_H_
