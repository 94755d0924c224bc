// The choices of a thread: the same ones in every run, whatever the others do.
//
// Thread safety: an Rng belongs to its thread.

#ifndef SHADOWMMU_TESTS_HARNESS_RNG_H_
#define SHADOWMMU_TESTS_HARNESS_RNG_H_

#include <cstdint>
#include <cstdlib>

namespace shadowmmu::testing {

class Rng {
 public:
  // `thread`: a number of its own for each.
  explicit Rng(uint64_t thread) : state_(Seed() * 1000 + thread) {}
  uint64_t Below(uint64_t bound) {
    state_ += 0x9e3779b97f4a7c15u;
    uint64_t z = state_;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (z ^ z >> 31) % bound;
  }

 private:
  // Another number for another mixture: the environment variable
  // SHADOWMMU_THREADS_SEED.
  static uint64_t Seed() {
    const char* const text = std::getenv("SHADOWMMU_THREADS_SEED");
    return text == nullptr ? 0 : std::strtoull(text, nullptr, 10);
  }

  uint64_t state_;
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_RNG_H_
