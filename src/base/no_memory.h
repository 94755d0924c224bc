// What becomes of operator new's std::bad_alloc: a status. No exception leaves
// the public face.
//
// Thread safety: functions without state.

#ifndef SHADOWMMU_BASE_NO_MEMORY_H_
#define SHADOWMMU_BASE_NO_MEMORY_H_

#include <new>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace shadowmmu {

// For calls in which only the text of an error takes memory.
inline constexpr absl::string_view kNoTextMemory =
    "an error, and no memory to say it";

// ResourceExhausted, with `text` if there is memory left for that.
inline absl::Status NoMemory(absl::string_view text) noexcept {
  try {
    return absl::ResourceExhaustedError(text);
  } catch (const std::bad_alloc&) {
    return absl::Status(absl::StatusCode::kResourceExhausted, "");
  }
}

// Runs `call`, which returns a Status or a StatusOr. What it does before it
// has all its memory must be undone by destructors.
template <typename Call>
auto CatchNoMemory(absl::string_view text, Call call) noexcept
    -> decltype(call()) {
  try {
    return call();
  } catch (const std::bad_alloc&) {
    return NoMemory(text);
  }
}

}  // namespace shadowmmu

#endif  // SHADOWMMU_BASE_NO_MEMORY_H_
