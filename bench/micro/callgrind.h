// Requests to callgrind, where its header was there when this was built. They
// cost a few instructions, and nothing happens, where it does not run.

#ifndef SHADOWMMU_BENCH_MICRO_CALLGRIND_H_
#define SHADOWMMU_BENCH_MICRO_CALLGRIND_H_

#if __has_include(<valgrind/callgrind.h>)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wold-style-cast"
#include <valgrind/callgrind.h>

namespace shadowmmu::bench {
inline bool UnderValgrind() { return RUNNING_ON_VALGRIND != 0; }
inline void StartCallgrind() { CALLGRIND_START_INSTRUMENTATION; }
inline void StopCallgrind() { CALLGRIND_STOP_INSTRUMENTATION; }
}  // namespace shadowmmu::bench
#pragma GCC diagnostic pop

#else

namespace shadowmmu::bench {
inline bool UnderValgrind() { return false; }
inline void StartCallgrind() {}
inline void StopCallgrind() {}
}  // namespace shadowmmu::bench
#endif

#endif  // SHADOWMMU_BENCH_MICRO_CALLGRIND_H_
