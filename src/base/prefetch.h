// Prefetch: asks for a cache line that will be needed soon, to be changed as a
// rule. Any address may be given; none faults.

#ifndef SHADOWMMU_BASE_PREFETCH_H_
#define SHADOWMMU_BASE_PREFETCH_H_

namespace shadowmmu {

inline void Prefetch(const void* address) { __builtin_prefetch(address, 1); }

}  // namespace shadowmmu

#endif  // SHADOWMMU_BASE_PREFETCH_H_
