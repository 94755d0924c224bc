// ApicBus: what carries interrupt messages to the local APICs: from the I/O
// APIC, and from one CPU to the others (APM vol. 2, 16.5; SDM vol. 3, 11.6).
//
//  1. A message reaches each APIC that it names; one of lowest priority, the
//     one whose processor priority is lowest (the first of those that have it).
//
// Thread safety: none; attach before the guest runs.

#ifndef HYPERVISOR_DEVICES_APIC_BUS_H_
#define HYPERVISOR_DEVICES_APIC_BUS_H_

#include <vector>

#include "devices/local_apic.h"

namespace hypervisor {

class ApicBus : public ApicMessageSink {
 public:
  // `apic` outlives the bus.
  void Attach(LocalApic& apic) { apics_.push_back(&apic); }

  void Send(const ApicMessage& message, const LocalApic* except) override;

 private:
  std::vector<LocalApic*> apics_;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_DEVICES_APIC_BUS_H_
