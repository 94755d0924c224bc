#include "emulate/tss.h"

#include <algorithm>
#include <cstddef>
#include <span>

#include "emulate/descriptor.h"
#include "emulate/word_bytes.h"

namespace hypervisor {
namespace {

using shadowmmu::Gva;

constexpr unsigned kMaxTssBytes = 0x68;
constexpr unsigned kLinkBytes = 2;
constexpr unsigned kCr3 = 0x1c;
constexpr unsigned kTrap = 0x64;

// Where a TSS of one width has the fields that both have.
struct Layout {
  unsigned field_bytes = 4;
  unsigned rip = 0x20;
  unsigned ldt = 0x60;
  unsigned segments = 6;

  unsigned saved_bytes() const { return (10 + segments) * field_bytes; }
};

constexpr Layout LayoutOf(TssWidth width) {
  return width == TssWidth::k32Bit
             ? Layout{}
             : Layout{
                   .field_bytes = 2, .rip = 0x0e, .ldt = 0x2a, .segments = 4};
}

// Fields one after the other.
class FieldReader {
 public:
  FieldReader(std::span<const std::byte> bytes, unsigned field_bytes)
      : bytes_(bytes), field_bytes_(field_bytes) {}
  uint32_t Next() {
    const uint64_t value = FromBytes(bytes_.first(field_bytes_));
    bytes_ = bytes_.subspan(field_bytes_);
    return static_cast<uint32_t>(value);
  }

 private:
  std::span<const std::byte> bytes_;
  unsigned field_bytes_;
};

class FieldWriter {
 public:
  FieldWriter(std::span<std::byte> bytes, unsigned field_bytes)
      : bytes_(bytes), field_bytes_(field_bytes) {}
  void Next(uint32_t value) {
    std::copy_n(ToBytes(value).begin(), field_bytes_, bytes_.begin());
    bytes_ = bytes_.subspan(field_bytes_);
  }

 private:
  std::span<std::byte> bytes_;
  unsigned field_bytes_;
};

}  // namespace

BusResult ReadTask(GuestBus& bus, Gva tss, TssWidth width, TaskImage& image) {
  std::array<std::byte, kMaxTssBytes> bytes = {};
  const std::span<std::byte> used = std::span(bytes).first(TssBytes(width));
  if (BusResult read = bus.Read(tss, kSystemRead, used); !read.ok()) {
    return read;
  }
  const Layout layout = LayoutOf(width);
  FieldReader fields(used.subspan(layout.rip), layout.field_bytes);
  image.rip = fields.Next();
  image.rflags = fields.Next();
  for (uint32_t& gpr : image.gpr) gpr = fields.Next();
  for (unsigned i = 0; i < layout.segments; ++i) {
    image.selectors[i] = static_cast<uint16_t>(fields.Next());
  }
  image.ldt = static_cast<uint16_t>(FromBytes(used.subspan(layout.ldt, 2)));
  if (width == TssWidth::k32Bit) {
    image.cr3 = static_cast<uint32_t>(FromBytes(used.subspan(kCr3, 4)));
    image.debug_trap = (used[kTrap] & std::byte{1}) != std::byte{0};
  }
  return BusResult::Ok();
}

BusResult WriteTask(GuestBus& bus, Gva tss, TssWidth width,
                    const TaskImage& image) {
  std::array<std::byte, kMaxTssBytes> bytes = {};
  const Layout layout = LayoutOf(width);
  FieldWriter fields(bytes, layout.field_bytes);
  fields.Next(image.rip);
  fields.Next(image.rflags);
  for (uint32_t gpr : image.gpr) fields.Next(gpr);
  for (unsigned i = 0; i < layout.segments; ++i) {
    fields.Next(image.selectors[i]);
  }
  return bus.Write(tss + layout.rip, kSystemWrite,
                   std::span(bytes).first(layout.saved_bytes()));
}

BusResult ProbeWriteTask(GuestBus& bus, Gva tss, TssWidth width) {
  const Layout layout = LayoutOf(width);
  return bus.Probe(tss + layout.rip, kSystemWrite, layout.saved_bytes());
}

BusResult WriteLink(GuestBus& bus, Gva tss, uint16_t selector) {
  const WordBytes bytes = ToBytes(selector);
  return bus.Write(tss, kSystemWrite, std::span(bytes).first(kLinkBytes));
}

}  // namespace hypervisor
