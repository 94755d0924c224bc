#include "devices/io_bus.h"

#include <algorithm>
#include <cstdlib>

namespace hypervisor {

void IoBus::Attach(uint16_t first, uint16_t count, PortDevice* device) {
  // Wrong wiring is a defect of the board, never a guest's doing.
  if (device == nullptr || count == 0 || first + count > 0x10000) std::abort();
  const Range added{.first = first,
                    .last = static_cast<uint16_t>(first + count - 1),
                    .device = device};
  const auto next = std::upper_bound(
      ranges_.begin(), ranges_.end(), first,
      [](uint16_t port, const Range& range) { return port < range.first; });
  if (next != ranges_.end() && next->first <= added.last) std::abort();
  if (next != ranges_.begin() && (next - 1)->last >= first) std::abort();
  ranges_.insert(next, added);
}

PortDevice* IoBus::Find(uint16_t port) const {
  const auto next = std::upper_bound(
      ranges_.begin(), ranges_.end(), port,
      [](uint16_t p, const Range& range) { return p < range.first; });
  if (next == ranges_.begin()) return nullptr;
  const Range& range = *(next - 1);
  return port <= range.last ? range.device : nullptr;
}

uint32_t IoBus::In(uint16_t port, unsigned bytes) {
  const uint32_t mask = bytes >= 4 ? ~uint32_t{0} : (1u << (8 * bytes)) - 1;
  PortDevice* const device = Find(port);
  if (device != nullptr && (bytes == 1 || device->Width() == PortWidth::kAny)) {
    return device->In(port, bytes) & mask;
  }
  if (bytes == 1) return mask;
  uint32_t value = 0;
  for (unsigned i = 0; i < bytes; ++i) {
    value |= In(static_cast<uint16_t>(port + i), 1) << (8 * i);
  }
  return value;
}

void IoBus::Out(uint16_t port, unsigned bytes, uint32_t value) {
  const uint32_t mask = bytes >= 4 ? ~uint32_t{0} : (1u << (8 * bytes)) - 1;
  PortDevice* const device = Find(port);
  if (device != nullptr && (bytes == 1 || device->Width() == PortWidth::kAny)) {
    device->Out(port, bytes, value & mask);
    return;
  }
  if (bytes == 1) return;
  for (unsigned i = 0; i < bytes; ++i) {
    Out(static_cast<uint16_t>(port + i), 1, (value >> (8 * i)) & 0xff);
  }
}

}  // namespace hypervisor
