// Isolated runs: in a child process, so that a failed check, a sanitizer's
// report or an endless loop is a failure that can be told, and shrunk, like any
// other.
//
// Thread safety: call while no other thread of the process runs (it forks).

#ifndef SHADOWMMU_TESTS_HARNESS_ISOLATED_H_
#define SHADOWMMU_TESTS_HARNESS_ISOLATED_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/functional/function_ref.h"
#include "tests/harness/ops.h"
#include "tests/harness/shrinker.h"
#include "tests/harness/simulator.h"

namespace shadowmmu::testing {

// What a child writes to stderr: shown, or thrown away.
enum class ChildStderr : uint8_t { kShow, kDiscard };

// Runs `body` in a child. nullopt if it returned an empty string; else the
// string, or how the child died. `seconds`: how long it may take.
std::optional<std::string> RunIsolated(absl::FunctionRef<std::string()> body,
                                       ChildStderr child_stderr,
                                       unsigned seconds = 60);

// Runs a stream against the library, isolated. The report, if it fails.
std::optional<std::string> RunStreamIsolated(const OpStream& stream,
                                             ChildStderr child_stderr);
// A stream that fails, made small by isolated runs.
OpStream ShrinkIsolated(const OpStream& stream);

// Runs seeds first to last, isolated as a whole. The first one that fails.
std::optional<uint64_t> FirstFailingSeed(uint64_t first, uint64_t last,
                                         const SimulatorOptions& options);

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_ISOLATED_H_
