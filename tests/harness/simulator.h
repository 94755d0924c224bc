// The simulator: makes op-streams out of nothing but a seed (or a fuzzer's
// bytes), steered to where shadow MMUs go wrong: few guest frames and few
// tables that many addresses share, tables that map tables and themselves,
// large guest pages over the edges of slots, slots that share host memory,
// notifiers around what the host changes, slots that go while others live,
// things that happen in the middle of a fault, and the shapes of shapes.h.
//
//   OpStream stream = GenerateStream(seed, {.ops = 500});
//   std::optional<StreamFailure> failure = RunStream(stream);
//
// A seed also chooses what is frequent in its stream and what does not happen
// at all, so that a thousand seeds differ more than a thousand times the same
// mixture would.
//
// Thread safety: pure functions.

#ifndef SHADOWMMU_TESTS_HARNESS_SIMULATOR_H_
#define SHADOWMMU_TESTS_HARNESS_SIMULATOR_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "tests/harness/ops.h"

namespace shadowmmu::testing {

struct SimulatorOptions {
  // Ops after those that set the scene.
  size_t ops = 500;
};

// The same stream for the same seed and options, everywhere.
OpStream GenerateStream(uint64_t seed, const SimulatorOptions& options);
// At most options.ops ops; any bytes give a stream.
OpStream GenerateStream(std::span<const uint8_t> bytes,
                        const SimulatorOptions& options);

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_SIMULATOR_H_
