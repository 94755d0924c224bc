// The instructions that C++ has no name for.
//
// A Word is a register: 4 bytes in a 32-bit guest, 8 in a 64-bit one.

#ifndef HYPERVISOR_GUESTS_RUNTIME_CPU_H_
#define HYPERVISOR_GUESTS_RUNTIME_CPU_H_

#include <stddef.h>
#include <stdint.h>

namespace guest {

using Word = uintptr_t;

inline constexpr Word kCr0Pe = 1u << 0;
inline constexpr Word kCr0Ts = 1u << 3;
inline constexpr Word kCr0Wp = 1u << 16;
inline constexpr Word kCr0Pg = 1u << 31;
inline constexpr Word kCr4Pse = 1u << 4;
inline constexpr Word kCr4Pae = 1u << 5;
inline constexpr Word kCr4Pge = 1u << 7;
inline constexpr Word kCr4Smep = 1u << 20;
inline constexpr Word kCr4Smap = 1u << 21;
inline constexpr Word kCr4Pke = 1u << 22;
inline constexpr uint32_t kMsrEfer = 0xc0000080;
inline constexpr uint64_t kEferNxe = 1u << 11;

inline void Out8(uint16_t port, uint8_t value) {
  asm volatile("outb %0, %1" ::"a"(value), "Nd"(port));
}
inline void Out32(uint16_t port, uint32_t value) {
  asm volatile("outl %0, %1" ::"a"(value), "Nd"(port));
}
inline uint8_t In8(uint16_t port) {
  uint8_t value;
  asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}

#define HYPERVISOR_GUEST_CONTROL_REGISTER(number)                 \
  inline Word ReadCr##number() {                                  \
    Word value;                                                   \
    asm volatile("mov %%cr" #number ", %0" : "=r"(value));        \
    return value;                                                 \
  }                                                               \
  inline void WriteCr##number(Word value) {                       \
    asm volatile("mov %0, %%cr" #number ::"r"(value) : "memory"); \
  }
HYPERVISOR_GUEST_CONTROL_REGISTER(0)
HYPERVISOR_GUEST_CONTROL_REGISTER(2)
HYPERVISOR_GUEST_CONTROL_REGISTER(3)
HYPERVISOR_GUEST_CONTROL_REGISTER(4)
#undef HYPERVISOR_GUEST_CONTROL_REGISTER

inline void Invlpg(Word address) {
  asm volatile("invlpg (%0)" ::"r"(address) : "memory");
}
// Drops what the TLB has, global pages excepted.
inline void ReloadCr3() { WriteCr3(ReadCr3()); }

inline uint64_t ReadMsr(uint32_t msr) {
  uint32_t low;
  uint32_t high;
  asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
  return uint64_t{high} << 32 | low;
}
inline void WriteMsr(uint32_t msr, uint64_t value) {
  asm volatile("wrmsr" ::"c"(msr), "a"(static_cast<uint32_t>(value)),
               "d"(static_cast<uint32_t>(value >> 32)));
}

struct Cpuid {
  uint32_t eax;
  uint32_t ebx;
  uint32_t ecx;
  uint32_t edx;
};
inline Cpuid ReadCpuid(uint32_t leaf, uint32_t subleaf = 0) {
  Cpuid id;
  asm volatile("cpuid"
               : "=a"(id.eax), "=b"(id.ebx), "=c"(id.ecx), "=d"(id.edx)
               : "a"(leaf), "c"(subleaf));
  return id;
}
// All zeros where the CPU has no such leaf.
inline Cpuid CpuidOrNone(uint32_t leaf) {
  const uint32_t highest = ReadCpuid(leaf & 0x80000000u).eax;
  return highest >= leaf ? ReadCpuid(leaf) : Cpuid{};
}

inline void EnableInterrupts() { asm volatile("sti" ::: "memory"); }
inline void DisableInterrupts() { asm volatile("cli" ::: "memory"); }
// Waits for an interrupt.
inline void Halt() { asm volatile("sti; hlt; cli" ::: "memory"); }

}  // namespace guest

#endif  // HYPERVISOR_GUESTS_RUNTIME_CPU_H_
