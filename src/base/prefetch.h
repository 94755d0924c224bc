// Prefetch: asks for a cache line that will be needed soon, to be changed as a
// rule. Any address may be given; none faults.
//
// Not __builtin_prefetch: GCC takes a function that does nothing else for one
// without effect, and drops calls of it that it has not inlined.

#ifndef SHADOWMMU_BASE_PREFETCH_H_
#define SHADOWMMU_BASE_PREFETCH_H_

namespace shadowmmu {

inline void Prefetch(const void* address) {
#if defined(__x86_64__)
  asm volatile("prefetcht0 %0" : : "m"(*static_cast<const char*>(address)));
#else
  __builtin_prefetch(address);
#endif
}

}  // namespace shadowmmu

#endif  // SHADOWMMU_BASE_PREFETCH_H_
