// Cpuid: what the guest's CPU says of itself: the CPU that it runs on, without
// what is not emulated or not shadowed (APM vol. 3, appendix E).
//
//  1. A feature that is hidden is absent everywhere: CR4 does not take its bit,
//     and the library is told.
//
// Thread safety: none; values that do not change once the guest runs.

#ifndef HYPERVISOR_VCPU_CPUID_H_
#define HYPERVISOR_VCPU_CPUID_H_

#include <cstdint>
#include <span>
#include <string>

#include "boot/cpu.h"
#include "shadowmmu/registers.h"

namespace hypervisor {

class Cpuid {
 public:
  // "+name" and "-name", as in GuestOptions. What the guest is never offered,
  // and what depends on nothing here, is left to the CPU.
  void Apply(std::span<const std::string> flags);

  // Shows the local APIC, which is there in any case.
  void OfferLocalApic() { hidden_1_edx_ &= ~kLocalApic; }

  // What the guest reads with these in EAX and ECX; `cr4` is the guest's, and
  // `apic_id` the number of its CPU.
  CpuidResult Read(uint32_t leaf, uint32_t subleaf, uint64_t cr4,
                   uint8_t apic_id = 0) const;
  // Of leaf 1's EDX: an APIC that is not enabled is not there (SDM vol. 3,
  // 11.4.3).
  static constexpr uint32_t kLocalApic = 1u << 9;

  // The bits of CR4 that the guest may set.
  uint64_t AllowedCr4() const;
  // What the library must know.
  shadowmmu::CpuFeatures PagingFeatures() const;
  unsigned physical_bits() const;

 private:
  // Bits that are hidden, and shown all the same, by name. There is a local
  // APIC, but no table that says how interrupts get to it: a guest that is to
  // use it is told so by the user.
  uint32_t hidden_1_edx_ = kLocalApic;
  uint32_t hidden_7_ebx_ = 0;
  uint32_t hidden_7_ecx_ = 0;
  uint32_t hidden_extended_edx_ = 0;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_VCPU_CPUID_H_
