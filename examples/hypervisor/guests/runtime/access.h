// One access to one address, by the supervisor or a user, and what became of
// it.

#ifndef HYPERVISOR_GUESTS_RUNTIME_ACCESS_H_
#define HYPERVISOR_GUESTS_RUNTIME_ACCESS_H_

#include <stdint.h>

#include "runtime/cpu.h"
#include "runtime/guard.h"

namespace guest {

// Where each address space has the code of user mode.
inline constexpr Word kUserCode = 0x30000000;

enum class Access : uint8_t { kRead, kWrite, kFetch };
enum class Ring : uint8_t { k0, k3 };

// Bits of a page fault's error code.
inline constexpr Word kFaultPresent = 1u << 0;
inline constexpr Word kFaultWrite = 1u << 1;
inline constexpr Word kFaultUser = 1u << 2;
inline constexpr Word kFaultReserved = 1u << 3;
inline constexpr Word kFaultFetch = 1u << 4;
inline constexpr Word kFaultKey = 1u << 5;

struct Outcome {
  bool ok;
  // Of a read.
  uint32_t value;
  // Unless ok.
  Fault fault;
};

// Reads or writes (`value`) 4 bytes, or jumps there: what is fetched must be
// kJumpBack, at 2 bytes.
inline constexpr uint16_t kJumpBack = 0xe2ff;  // jmp *%edx, or *%rdx
Outcome Do(Access access, Ring ring, Word address, uint32_t value = 0);

// The same, by the supervisor, where it must succeed.
uint32_t Read(Word address, int line = __builtin_LINE());
void Write(Word address, uint32_t value, int line = __builtin_LINE());

}  // namespace guest

#endif  // HYPERVISOR_GUESTS_RUNTIME_ACCESS_H_
