#include "boot/random.h"

#include <atomic>

#include "boot/cpu.h"

namespace hypervisor {

uint64_t NextRandom() {
  constinit static std::atomic<uint64_t> state = 0;
  const uint64_t step = ReadTsc() | 1;
  uint64_t mixed = state.fetch_add(step, std::memory_order_relaxed) + step;
  mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
  mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
  return mixed ^ (mixed >> 31);
}

}  // namespace hypervisor
