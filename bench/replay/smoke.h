// A tiny trace that is made here, and a replay of it in every way: what CI runs
// to see that the program works at all.

#ifndef SHADOWMMU_BENCH_REPLAY_SMOKE_H_
#define SHADOWMMU_BENCH_REPLAY_SMOKE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace shadowmmu::replay {

// A trace as lackey would write it, of a program that loops over its text,
// reads a table, and writes a heap of `pages` pages and a stack: fetches,
// loads, stores and modifies, some of them 32 bytes long and across pages.
std::string SyntheticTrace(uint64_t pages);

// Plays it with each strategy and with slot churn, checked; and in a guest that
// forks, with it and without. What went wrong.
absl::Status RunSmoke();

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_SMOKE_H_
