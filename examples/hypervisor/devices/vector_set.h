// A set of interrupt vectors: the APIC's 256-bit IRR and ISR.
//
// Thread safety: a value.

#ifndef HYPERVISOR_DEVICES_VECTOR_SET_H_
#define HYPERVISOR_DEVICES_VECTOR_SET_H_

#include <array>
#include <bit>
#include <cstdint>
#include <optional>

namespace hypervisor {

class VectorSet {
 public:
  void Add(uint8_t vector) { words_[vector / 32] |= 1u << (vector % 32); }
  void Remove(uint8_t vector) { words_[vector / 32] &= ~(1u << (vector % 32)); }

  bool Contains(uint8_t vector) const {
    return (words_[vector / 32] >> (vector % 32) & 1) != 0;
  }

  // The vector of highest priority: the greatest.
  std::optional<uint8_t> Highest() const {
    for (unsigned i = kWords; i-- > 0;) {
      if (words_[i] == 0) continue;
      const auto bit = static_cast<unsigned>(std::bit_width(words_[i])) - 1;
      return static_cast<uint8_t>(32 * i + bit);
    }
    return std::nullopt;
  }

  // Vectors 32 * i to 32 * i + 31, as the APIC's registers show them.
  uint32_t Word(unsigned i) const { return words_[i]; }

 private:
  static constexpr unsigned kWords = 8;
  std::array<uint32_t, kWords> words_ = {};
};

}  // namespace hypervisor

#endif  // HYPERVISOR_DEVICES_VECTOR_SET_H_
