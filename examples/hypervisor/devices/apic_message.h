// An interrupt message, as local APICs get it (APM vol. 2, 16.5).
//
// Thread safety: values.

#ifndef HYPERVISOR_DEVICES_APIC_MESSAGE_H_
#define HYPERVISOR_DEVICES_APIC_MESSAGE_H_

#include <cstdint>

namespace hypervisor {

class LocalApic;

// As the interrupt command register and the I/O APIC's entries encode it.
// Others vanish.
enum class DeliveryMode : uint8_t {
  kFixed = 0,
  kLowestPriority = 1,
  kNmi = 4,
  kInit = 5,
  kStartup = 6,
};

struct ApicMessage {
  uint8_t vector;
  DeliveryMode mode;
  uint8_t destination;
  bool logical;
  bool level;
};

class ApicMessageSink {
 public:
  virtual ~ApicMessageSink() = default;

  // To each that the message names, but for `except` (nullptr: nobody).
  virtual void Send(const ApicMessage& message, const LocalApic* except) = 0;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_DEVICES_APIC_MESSAGE_H_
