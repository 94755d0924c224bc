// The command shadowmmu_replay, but for the process around it.

#ifndef SHADOWMMU_BENCH_REPLAY_COMMAND_H_
#define SHADOWMMU_BENCH_REPLAY_COMMAND_H_

#include <istream>
#include <ostream>
#include <span>

#include "absl/strings/string_view.h"

namespace shadowmmu::replay {

// Exit statuses; 0 is success.
inline constexpr int kExitDifference = 1;  // or a defect
inline constexpr int kExitUsage = 2;
inline constexpr int kExitTrace = 3;  // damaged, truncated, unreadable
inline constexpr int kExitMemory = 4;

// Does what `words`, those after the program's name, ask for. `in` is the trace
// unless a file is named; the report goes to `out`, errors to `err`. Returns
// the exit status.
int RunCommand(std::span<const absl::string_view> words, std::istream& in,
               std::ostream& out, std::ostream& err);

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_COMMAND_H_
