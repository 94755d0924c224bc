// InsistingBus: a bus on top of another, for what cannot start anew any more
// because a part of it has been done: an access that is to be retried is made
// again here.
//
// A retry tells of a change by someone else meanwhile, so it does not come for
// long. If it does, the access is a #DF: the guest's CPU cannot go on.
//
// Thread safety: as the bus below.

#ifndef HYPERVISOR_EMULATE_INSISTING_BUS_H_
#define HYPERVISOR_EMULATE_INSISTING_BUS_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "emulate/guest_bus.h"

namespace hypervisor {

class InsistingBus : public GuestBus {
 public:
  static constexpr unsigned kMaxTries = 1000;

  // Not owned; must outlive this.
  explicit InsistingBus(GuestBus& bus) : bus_(bus) {}

  BusResult Read(shadowmmu::Gva gva, const BusAccess& access,
                 std::span<std::byte> out) override;
  BusResult Write(shadowmmu::Gva gva, const BusAccess& access,
                  std::span<const std::byte> bytes) override;
  BusResult Probe(shadowmmu::Gva gva, const BusAccess& access,
                  size_t bytes) override;
  ExchangeResult CompareExchange(shadowmmu::Gva gva, const BusAccess& access,
                                 std::span<std::byte> expected,
                                 std::span<const std::byte> desired) override;
  uint32_t In(uint16_t port, unsigned bytes) override {
    return bus_.In(port, bytes);
  }
  void Out(uint16_t port, unsigned bytes, uint32_t value) override {
    bus_.Out(port, bytes, value);
  }

 private:
  GuestBus& bus_;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_EMULATE_INSISTING_BUS_H_
