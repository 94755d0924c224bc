#include "boot/local_apic.h"

#include "boot/cpu.h"
#include "boot/exit.h"
#include "boot/trap.h"

namespace hypervisor {
namespace {

// The interrupt command register (APM vol. 2, 16.5).
constexpr uint32_t kInit = 5u << 8;
constexpr uint32_t kStartup = 6u << 8;
constexpr uint32_t kAssert = 1u << 14;
constexpr uint32_t kToOthers = 3u << 18;
constexpr uint32_t kPending = 1u << 12;

// Interrupts are off: nothing comes between the two writes.
void Send(uint32_t destination, uint32_t command) {
  ApicWrite(ApicRegister::kCommandHigh, destination << 24);
  ApicWrite(ApicRegister::kCommandLow, command);
  constexpr int kPolls = 1'000'000;
  for (int i = 0; i < kPolls; ++i) {
    if ((ApicRead(ApicRegister::kCommandLow) & kPending) == 0) return;
    Pause();
  }
  ExitBecause("the local APIC does not send");
}

}  // namespace

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
  ApicWrite(ApicRegister::kSpurious, kSoftwareEnable | kSpuriousVector);
}

void SendInterrupt(uint32_t apic_id, uint8_t vector) {
  Send(apic_id, kAssert | vector);
}

void SendInitToOthers() { Send(0, kToOthers | kAssert | kInit); }

void SendStartupToOthers(uint8_t page) {
  Send(0, kToOthers | kAssert | kStartup | page);
}

}  // namespace hypervisor
