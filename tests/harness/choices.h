// Choices: where a generated stream takes its choices from: a seed, or the
// bytes of a fuzzer. The same seed gives the same choices on every machine,
// which the generators of <random> do not promise.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_TESTS_HARNESS_CHOICES_H_
#define SHADOWMMU_TESTS_HARNESS_CHOICES_H_

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

namespace shadowmmu::testing {

class Choices {
 public:
  // splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
  // generators", 2014).
  explicit Choices(uint64_t seed) : state_(seed) {}
  // Takes bytes until there are none; then every choice is 0. Not owned.
  explicit Choices(std::span<const uint8_t> bytes)
      : from_bytes_(true), bytes_(bytes) {}

  // The bytes are used up; never so for a seed.
  bool exhausted() const { return from_bytes_ && bytes_.empty(); }

  uint64_t Next() { return from_bytes_ ? Take(8) : NextRandom(); }
  // 0 to bound - 1; bound is not 0.
  uint64_t Below(uint64_t bound) {
    if (!from_bytes_) return NextRandom() % bound;
    return Take(bound <= 0x100 ? 1 : bound <= 0x1'0000 ? 2 : 8) % bound;
  }
  bool Percent(uint64_t chance) { return Below(100) < chance; }

  template <typename T>
  const T& Of(const std::vector<T>& from) {
    return from[static_cast<size_t>(Below(from.size()))];
  }
  uint64_t Of(std::initializer_list<uint64_t> from) {
    return from.begin()[static_cast<size_t>(Below(from.size()))];
  }

 private:
  uint64_t NextRandom() {
    state_ += 0x9e37'79b9'7f4a'7c15;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58'476d'1ce4'e5b9;
    z = (z ^ (z >> 27)) * 0x94d0'49bb'1331'11eb;
    return z ^ (z >> 31);
  }
  uint64_t Take(size_t count) {
    uint64_t value = 0;
    for (size_t i = 0; i < count && !bytes_.empty(); ++i) {
      value |= uint64_t{bytes_.front()} << (8 * i);
      bytes_ = bytes_.subspan(1);
    }
    return value;
  }

  bool from_bytes_ = false;
  uint64_t state_ = 0;
  std::span<const uint8_t> bytes_;
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_CHOICES_H_
