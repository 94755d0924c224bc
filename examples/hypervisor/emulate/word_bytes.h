// Words as memory has them: little-endian bytes.
//
// Thread safety: pure functions.

#ifndef HYPERVISOR_EMULATE_WORD_BYTES_H_
#define HYPERVISOR_EMULATE_WORD_BYTES_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace hypervisor {

using WordBytes = std::array<std::byte, 8>;

constexpr WordBytes ToBytes(uint64_t value) {
  WordBytes bytes = {};
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>(value >> (8 * i));
  }
  return bytes;
}

// Of at most eight bytes.
constexpr uint64_t FromBytes(std::span<const std::byte> bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < bytes.size() && i < sizeof(value); ++i) {
    value |= std::to_integer<uint64_t>(bytes[i]) << (8 * i);
  }
  return value;
}

}  // namespace hypervisor

#endif  // HYPERVISOR_EMULATE_WORD_BYTES_H_
