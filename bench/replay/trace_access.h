// TraceAccess: one memory access of a traced program.
//
//  1. Addresses lie in the lower half of the address space (below 2^47): lackey
//     traces user programs.
//  2. It may cross pages; then it is one access for each page that it touches.
//  3. A modify is one access that needs to write: a CPU asks for the right to
//     write before it reads, too.
//
// Thread safety: values.

#ifndef SHADOWMMU_BENCH_REPLAY_TRACE_ACCESS_H_
#define SHADOWMMU_BENCH_REPLAY_TRACE_ACCESS_H_

#include <cstddef>
#include <cstdint>

#include "shadowmmu/access.h"
#include "shadowmmu/address.h"

namespace shadowmmu::replay {

enum class TraceKind : uint8_t { kFetch, kLoad, kStore, kModify };
inline constexpr size_t kTraceKinds = 4;

// User addresses are below this (SDM vol. 1, 3.3.7.1: canonical, 48 bits).
inline constexpr Gva kUserEnd{uint64_t{1} << 47};

struct TraceAccess {
  Gva begin;
  uint32_t bytes = 1;  // at least 1
  TraceKind kind = TraceKind::kLoad;

  constexpr Gva last() const { return begin + (bytes - 1); }
  constexpr bool in_one_page() const {
    return PageOffset(begin) + bytes <= kPageSize;
  }
  constexpr AccessType needs() const {
    constexpr AccessType kNeeds[kTraceKinds] = {
        AccessType::kFetch, AccessType::kRead, AccessType::kWrite,
        AccessType::kWrite};
    return kNeeds[static_cast<size_t>(kind)];
  }
  friend constexpr bool operator==(const TraceAccess&,
                                   const TraceAccess&) = default;
};

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_TRACE_ACCESS_H_
