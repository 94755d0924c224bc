#include "boot/local_apic.h"

#include "boot/cpu.h"
#include "boot/exit.h"
#include "boot/trap.h"

namespace hypervisor {

void EnableLocalApic() {
  constexpr uint32_t kMsrApicBase = 0x1b;
  constexpr uint64_t kGlobalEnable = 1u << 11;
  constexpr uint64_t kX2Apic = 1u << 10;
  constexpr uint64_t kAddress = 0xfffffffff000;
  const uint64_t base = ReadMsr(kMsrApicBase);
  if ((base & kX2Apic) || (base & kAddress) != 0xfee00000) {
    ExitBecause("the local APIC is not at 0xfee00000");
  }
  WriteMsr(kMsrApicBase, base | kGlobalEnable);

  constexpr uint32_t kSoftwareEnable = 1u << 8;
  ApicWrite(ApicRegister::kSpuriousVector, kSoftwareEnable | kSpuriousVector);
}

}  // namespace hypervisor
