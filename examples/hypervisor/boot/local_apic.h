// The registers of the host CPU's local APIC, through memory (xAPIC; SDM vol.
// 3, 11.4.1; APM vol. 2, 16.3).
//
// Thread safety: each CPU sees its own.

#ifndef HYPERVISOR_BOOT_LOCAL_APIC_H_
#define HYPERVISOR_BOOT_LOCAL_APIC_H_

#include <cstdint>

namespace hypervisor {

enum class ApicRegister : uint32_t {
  kId = 0x20,
  kEndOfInterrupt = 0xb0,
  kSpurious = 0xf0,
  kCommandLow = 0x300,
  kCommandHigh = 0x310,
  kTimer = 0x320,
  kTimerInitialCount = 0x380,
  kTimerCurrentCount = 0x390,
  kTimerDivide = 0x3e0,
};

inline volatile uint32_t& ApicAt(ApicRegister which) {
  constexpr uintptr_t kBase = 0xfee00000;
  return *reinterpret_cast<volatile uint32_t*>(kBase +
                                               static_cast<uint32_t>(which));
}

inline uint32_t ApicRead(ApicRegister which) { return ApicAt(which); }
inline void ApicWrite(ApicRegister which, uint32_t value) {
  ApicAt(which) = value;
}

// Switches this CPU's local APIC on, with nothing let in yet. Ends the
// hypervisor if its registers are not where they are expected.
void EnableLocalApic();

// Sends an interrupt to the CPU whose local APIC has this number.
void SendInterrupt(uint32_t apic_id, uint8_t vector);
// INIT, and a start-up interrupt (code at `page` * 4096), to all other CPUs.
void SendInitToOthers();
void SendStartupToOthers(uint8_t page);

}  // namespace hypervisor

#endif  // HYPERVISOR_BOOT_LOCAL_APIC_H_
