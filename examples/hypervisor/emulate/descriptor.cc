#include "emulate/descriptor.h"

#include <array>
#include <cstddef>
#include <span>

#include "emulate/word_bytes.h"

namespace hypervisor {
namespace {

using shadowmmu::Gva;

constexpr unsigned kDescriptorBytes = 8;
constexpr unsigned kTypeByte = 5;
constexpr unsigned kMaxExchanges = 64;

// Tables lie below 4 GiB outside long mode.
Gva TableAddress(const CpuState& cpu, uint64_t base, uint64_t offset) {
  const uint64_t address = base + offset;
  return Gva(cpu.long_mode() ? address : address & 0xffffffff);
}

}  // namespace

std::optional<Gva> DescriptorAddress(const CpuState& cpu, uint16_t value) {
  const bool local = (value & selector::kLdt) != 0;
  const Segment& table = local ? cpu.ldtr : cpu.gdtr;
  if (local &&
      (selector::IsNull(table.selector) || !table.Has(Segment::kPresent))) {
    return std::nullopt;
  }
  const uint32_t offset = value & selector::kIndex;
  if (uint64_t{offset} + kDescriptorBytes - 1 > table.limit) {
    return std::nullopt;
  }
  return TableAddress(cpu, table.base, offset);
}

Segment SegmentFrom(uint16_t value, uint64_t descriptor) {
  Segment segment;
  segment.selector = value;
  segment.attributes = static_cast<uint16_t>(((descriptor >> 40) & 0xff) |
                                             ((descriptor >> 44) & 0xf00));
  segment.base =
      ((descriptor >> 16) & 0xffffff) | ((descriptor >> 32) & 0xff000000);
  segment.limit = static_cast<uint32_t>((descriptor & 0xffff) |
                                        ((descriptor >> 32) & 0xf0000));
  if (segment.Has(Segment::kGranularity)) {
    segment.limit = (segment.limit << 12) | 0xfff;
  }
  return segment;
}

BusResult ReadDescriptor(GuestBus& bus, Gva gva, uint64_t& descriptor) {
  WordBytes bytes = {};
  BusResult read = bus.Read(gva, kSystemRead, bytes);
  if (read.ok()) descriptor = FromBytes(bytes);
  return read;
}

BusResult ChangeDescriptorType(GuestBus& bus, Gva gva, uint8_t set,
                               uint8_t clear) {
  std::array<std::byte, 1> held = {};
  const Gva at = gva + kTypeByte;
  if (BusResult read = bus.Read(at, kSystemWrite, held); !read.ok()) {
    return read;
  }
  for (unsigned i = 0; i < kMaxExchanges; ++i) {
    const std::array<std::byte, 1> desired = {(held[0] | std::byte{set}) &
                                              ~std::byte{clear}};
    if (desired == held) return BusResult::Ok();
    ExchangeResult exchange =
        bus.CompareExchange(at, kSystemWrite, held, desired);
    if (!exchange.result.ok()) return exchange.result;
    if (exchange.exchanged == Exchanged::kYes) return BusResult::Ok();
  }
  return BusResult::Retry();
}

}  // namespace hypervisor
