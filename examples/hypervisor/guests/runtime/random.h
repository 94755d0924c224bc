// Random: numbers that are the same in each run.

#ifndef HYPERVISOR_GUESTS_RUNTIME_RANDOM_H_
#define HYPERVISOR_GUESTS_RUNTIME_RANDOM_H_

#include <stdint.h>

namespace guest {

class Random {
 public:
  explicit Random(uint32_t seed) : state_(seed) {}
  unsigned Below(unsigned bound) {
    state_ = state_ * 1103515245u + 12345u;
    return (state_ >> 16) % bound;
  }

 private:
  uint32_t state_;
};

}  // namespace guest

#endif  // HYPERVISOR_GUESTS_RUNTIME_RANDOM_H_
