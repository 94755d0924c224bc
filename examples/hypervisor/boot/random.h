// Numbers that differ from one boot to the next: splitmix64 (Steele, Lea, Flood
// 2014) over the time-stamp counter. Nothing here is a secret.
//
// Thread safety: any CPU.

#ifndef HYPERVISOR_BOOT_RANDOM_H_
#define HYPERVISOR_BOOT_RANDOM_H_

#include <cstdint>

namespace hypervisor {

uint64_t NextRandom();

}  // namespace hypervisor

#endif  // HYPERVISOR_BOOT_RANDOM_H_
