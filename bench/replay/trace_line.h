// One line of the text that `valgrind --tool=lackey --trace-mem=yes` writes:
//
//   I  0401ab70,3      fetch of an instruction: address, hexadecimal; size
//    L 1fff000c78,8    load
//    S 1fff000c78,8    store
//    M 04a1ade0,4      modify: load and store of the same place
//   ==23305== ...      valgrind's own
//   --23305-- ...      its own too: warnings, and what -v says
//   **23305** ...      what the program asked it to print
//
// The trailer is valgrind's last word, `==23305== Exit code:       0`.
//
// Thread safety: pure functions.

#ifndef SHADOWMMU_BENCH_REPLAY_TRACE_LINE_H_
#define SHADOWMMU_BENCH_REPLAY_TRACE_LINE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "bench/replay/trace_access.h"

namespace shadowmmu::replay {

// The largest access that is believed. (XSAVE, the largest that x86 has, stores
// some 3 KiB, and 11 KiB with AMX.)
inline constexpr uint32_t kMaxAccessBytes = 64 * 1024;

struct TraceLine {
  enum class Kind : uint8_t {
    kAccess,
    kRemark,   // valgrind's own
    kTrailer,  // valgrind's own, and says how the program ended
  };
  Kind kind = Kind::kRemark;
  TraceAccess access{};  // of kAccess
};

// `line` has no newline. InvalidArgument says what is wrong with it.
absl::StatusOr<TraceLine> ParseTraceLine(absl::string_view line);

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_TRACE_LINE_H_
