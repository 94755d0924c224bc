// Reading objects out of files that nobody has checked.
//
// Thread safety: pure functions.

#ifndef HYPERVISOR_LOADERS_BYTES_H_
#define HYPERVISOR_LOADERS_BYTES_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <type_traits>

namespace hypervisor {

// The `count` bytes from `offset` on, if `bytes` has them all.
inline std::optional<std::span<const std::byte>> SliceAt(
    std::span<const std::byte> bytes, uint64_t offset, uint64_t count) {
  if (offset > bytes.size() || count > bytes.size() - offset) {
    return std::nullopt;
  }
  return bytes.subspan(static_cast<size_t>(offset), static_cast<size_t>(count));
}

// The T that lies at `offset`, aligned or not, if `bytes` has all of it. x86 is
// little-endian, and so is all that is read here.
template <typename T>
std::optional<T> ReadAt(std::span<const std::byte> bytes, uint64_t offset) {
  static_assert(std::is_trivially_copyable_v<T>);
  const auto slice = SliceAt(bytes, offset, sizeof(T));
  if (!slice.has_value()) return std::nullopt;
  T value;
  std::memcpy(&value, slice->data(), sizeof(T));
  return value;
}

}  // namespace hypervisor

#endif  // HYPERVISOR_LOADERS_BYTES_H_
