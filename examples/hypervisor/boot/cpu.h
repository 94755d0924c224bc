// The instructions that C++ has no word for: ports, MSRs, the time-stamp
// counter, control registers.
//
// Thread safety: each acts on the CPU that executes it.

#ifndef HYPERVISOR_BOOT_CPU_H_
#define HYPERVISOR_BOOT_CPU_H_

#include <cstdint>

namespace hypervisor {

inline uint8_t PortIn8(uint16_t port) {
  uint8_t value = 0;
  __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}

inline void PortOut8(uint16_t port, uint8_t value) {
  __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

inline void PortOut16(uint16_t port, uint16_t value) {
  __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}

inline void PortOut32(uint16_t port, uint32_t value) {
  __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

inline uint64_t ReadMsr(uint32_t msr) {
  uint32_t low = 0;
  uint32_t high = 0;
  __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
  return uint64_t{high} << 32 | low;
}

inline void WriteMsr(uint32_t msr, uint64_t value) {
  __asm__ volatile("wrmsr"
                   :
                   : "c"(msr), "a"(static_cast<uint32_t>(value)),
                     "d"(static_cast<uint32_t>(value >> 32))
                   : "memory");
}

// CPUID of a leaf that the CPU has.
struct CpuidResult {
  uint32_t eax = 0;
  uint32_t ebx = 0;
  uint32_t ecx = 0;
  uint32_t edx = 0;
};
inline CpuidResult ReadCpuid(uint32_t leaf, uint32_t subleaf = 0) {
  CpuidResult result;
  __asm__ volatile("cpuid"
                   : "=a"(result.eax), "=b"(result.ebx), "=c"(result.ecx),
                     "=d"(result.edx)
                   : "a"(leaf), "c"(subleaf));
  return result;
}
// The same; zeros where the CPU does not have it.
inline CpuidResult ReadCpuidIfThere(uint32_t leaf, uint32_t subleaf = 0) {
  const uint32_t base = leaf & 0x80000000;
  return leaf <= ReadCpuid(base).eax ? ReadCpuid(leaf, subleaf) : CpuidResult();
}

inline uint64_t ReadTsc() {
  uint32_t low = 0;
  uint32_t high = 0;
  __asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
  return uint64_t{high} << 32 | low;
}

// The address of the latest page fault.
inline uint64_t ReadCr2() {
  uint64_t value = 0;
  __asm__ volatile("mov %%cr2, %0" : "=r"(value));
  return value;
}

// Forgets every translation that is not global (there are none that are).
inline void FlushTlb() {
  uint64_t cr3 = 0;
  __asm__ volatile("mov %%cr3, %0; mov %0, %%cr3" : "=r"(cr3) : : "memory");
}

// In a loop that waits for another CPU.
inline void Pause() { __asm__ volatile("pause" : : : "memory"); }

[[noreturn]] inline void HaltForEver() {
  while (true) __asm__ volatile("cli; hlt");
}

}  // namespace hypervisor

#endif  // HYPERVISOR_BOOT_CPU_H_
