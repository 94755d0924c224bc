// GuestMemoryView: a guest's physical memory, as who fills it before the guest
// runs sees it.
//
//  1. It is one block of the host's memory in which the byte at Gpa g is
//     block[g]. Of it, the guest has as RAM
//
//        [0, 0xa0000)         low RAM
//        [0x100000, size)     high RAM
//
//     and as ROM, all zeros (no BIOS), [0xc0000, 0x100000). Nothing answers at
//     [0xa0000, 0xc0000), where a VGA card would be, and from `size` on; those
//     128 KiB of the block are not used.
//  2. `size` is a multiple of 1 MiB, from 2 MiB to 3 GiB: the last GiB below
//     4 GiB is that of devices.
//  3. Writes are to RAM only: what touches anything else is refused whole.
//
// Thread safety: as of the block.

#ifndef HYPERVISOR_LOADERS_GUEST_MEMORY_H_
#define HYPERVISOR_LOADERS_GUEST_MEMORY_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "shadowmmu/address.h"

namespace hypervisor {

// [begin, begin + bytes).
struct GpaRange {
  shadowmmu::Gpa begin;
  uint64_t bytes = 0;

  constexpr shadowmmu::Gpa end() const { return begin + bytes; }
  constexpr bool Contains(shadowmmu::Gpa gpa) const {
    return gpa - begin < bytes;
  }
  // Whether all of `other` is in this one.
  constexpr bool Contains(const GpaRange& other) const {
    return other.begin - begin <= bytes &&
           other.bytes <= bytes - (other.begin - begin);
  }
  constexpr bool Overlaps(const GpaRange& other) const {
    return bytes != 0 && other.bytes != 0 &&
           (Contains(other.begin) || other.Contains(begin));
  }
  friend constexpr bool operator==(const GpaRange&, const GpaRange&) = default;
};

// One line of the map that a PC's firmware answers to INT 15h, AX=E820h (ACPI
// specification, 15.1).
struct E820Entry {
  static constexpr uint32_t kRam = 1;
  static constexpr uint32_t kReserved = 2;

  uint64_t base = 0;
  uint64_t bytes = 0;
  uint32_t type = 0;

  friend constexpr bool operator==(const E820Entry&,
                                   const E820Entry&) = default;
};

class GuestMemoryView {
 public:
  static constexpr uint64_t kMiB = uint64_t{1} << 20;
  static constexpr uint64_t kSmallest = 2 * kMiB;
  static constexpr uint64_t kLargest = 3072 * kMiB;
  static constexpr GpaRange kLowRam = {shadowmmu::Gpa(0), 0xa0000};
  static constexpr GpaRange kRom = {shadowmmu::Gpa(0xc0000), 0x40000};
  static constexpr shadowmmu::Gpa kHighRam = shadowmmu::Gpa(0x100000);

  // InvalidArgument unless the size is one of invariant 2.
  static absl::StatusOr<GuestMemoryView> Make(std::span<std::byte> block);

  uint64_t size() const { return block_.size(); }
  GpaRange high_ram() const { return {kHighRam, size() - kHighRam.value()}; }
  // Low RAM, high RAM.
  std::array<GpaRange, 2> ram() const { return {kLowRam, high_ram()}; }
  std::array<E820Entry, 3> e820() const;

  // The bytes of `range`; OutOfRange unless all of it is RAM, and of one piece.
  absl::StatusOr<std::span<std::byte>> Ram(GpaRange range) const;
  // As Ram says.
  absl::Status Write(shadowmmu::Gpa gpa,
                     std::span<const std::byte> bytes) const;
  absl::Status Clear(GpaRange range) const;
  template <typename T>
  absl::Status WriteObject(shadowmmu::Gpa gpa, const T& object) const {
    static_assert(std::is_trivially_copyable_v<T>);
    return Write(gpa, std::as_bytes(std::span(&object, 1)));
  }

 private:
  explicit GuestMemoryView(std::span<std::byte> block) : block_(block) {}

  std::span<std::byte> block_;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_LOADERS_GUEST_MEMORY_H_
