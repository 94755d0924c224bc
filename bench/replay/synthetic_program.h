// SyntheticProgram: a program for processes that have no trace to play: it runs
// through its text, works on a part of its heap that moves on from turn to
// turn, and uses its stack. And what a process does with a region that it has
// mapped.
//
// Thread safety: pure functions, but for the choices.

#ifndef SHADOWMMU_BENCH_REPLAY_SYNTHETIC_PROGRAM_H_
#define SHADOWMMU_BENCH_REPLAY_SYNTHETIC_PROGRAM_H_

#include <cstdint>
#include <vector>

#include "bench/replay/trace_access.h"
#include "shadowmmu/address.h"
#include "tests/harness/choices.h"

namespace shadowmmu::replay {

// The addresses of its parts are those of a program that is linked to a fixed
// place: three page tables.
inline constexpr Gva kProgramText{0x40'0000};
inline constexpr uint64_t kProgramTextPages = 48;
inline constexpr Gva kProgramHeap{0x4c'0000};
inline constexpr uint64_t kProgramHeapPages = 128;
inline constexpr Gva kProgramStack{0x7ffd'0000'0000};  // its end
inline constexpr uint64_t kProgramStackPages = 4;

// Appends the accesses of one turn.
void AppendTurn(testing::Choices* choices, std::vector<TraceAccess>* accesses);

// Appends one access to each of the pages from `begin` on: most write.
void AppendTouches(testing::Choices* choices, Gva begin, uint64_t pages,
                   std::vector<TraceAccess>* accesses);

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_SYNTHETIC_PROGRAM_H_
