#include "emulate/insisting_bus.h"

#include "absl/functional/function_ref.h"

namespace hypervisor {
namespace {

using shadowmmu::Gva;

BusResult Insist(absl::FunctionRef<BusResult()> access) {
  for (unsigned i = 0; i < InsistingBus::kMaxTries; ++i) {
    BusResult result = access();
    if (result.kind != BusResult::Kind::kRetry) return result;
  }
  return BusResult::Inject(Exception::DoubleFault());
}

}  // namespace

BusResult InsistingBus::Read(Gva gva, const BusAccess& access,
                             std::span<std::byte> out) {
  return Insist([&] { return bus_.Read(gva, access, out); });
}

BusResult InsistingBus::Write(Gva gva, const BusAccess& access,
                              std::span<const std::byte> bytes) {
  return Insist([&] { return bus_.Write(gva, access, bytes); });
}

BusResult InsistingBus::Probe(Gva gva, const BusAccess& access, size_t bytes) {
  return Insist([&] { return bus_.Probe(gva, access, bytes); });
}

ExchangeResult InsistingBus::CompareExchange(
    Gva gva, const BusAccess& access, std::span<std::byte> expected,
    std::span<const std::byte> desired) {
  ExchangeResult exchange;
  exchange.result = Insist([&] {
    exchange = bus_.CompareExchange(gva, access, expected, desired);
    return exchange.result;
  });
  return exchange;
}

}  // namespace hypervisor
