#include "devices/apic_bus.h"

namespace hypervisor {

void ApicBus::Send(const ApicMessage& message, const LocalApic* except) {
  LocalApic* lowest = nullptr;
  for (LocalApic* const apic : apics_) {
    if (apic == except || !apic->IsFor(message)) continue;
    if (message.mode != DeliveryMode::kLowestPriority) {
      apic->Receive(message);
    } else if (lowest == nullptr ||
               apic->ProcessorPriority() < lowest->ProcessorPriority()) {
      lowest = apic;
    }
  }
  if (lowest != nullptr) lowest->Receive(message);
}

}  // namespace hypervisor
