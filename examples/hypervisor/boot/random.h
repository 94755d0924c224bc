// Numbers that differ from one boot to the next: splitmix64 (Steele, Lea, Flood
// 2014) over the time-stamp counter. Nothing here is a secret.
//
// Thread safety: one CPU.

#ifndef HYPERVISOR_BOOT_RANDOM_H_
#define HYPERVISOR_BOOT_RANDOM_H_

#include <cstdint>

#include "boot/cpu.h"

namespace hypervisor {

inline uint64_t NextRandom() {
  constinit static uint64_t state = 0;
  state += ReadTsc() | 1;
  uint64_t mixed = state;
  mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
  mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
  return mixed ^ (mixed >> 31);
}

}  // namespace hypervisor

#endif  // HYPERVISOR_BOOT_RANDOM_H_
