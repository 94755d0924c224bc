// Text of --help, in lines of 80 columns.

#ifndef SHADOWMMU_BENCH_REPLAY_HELP_TEXT_H_
#define SHADOWMMU_BENCH_REPLAY_HELP_TEXT_H_

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace shadowmmu::replay {

// `name`, as it is, and what it means, from column `indent` on. Ends with a
// newline.
std::string HelpEntry(absl::string_view name, size_t indent,
                      absl::string_view meaning);

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_HELP_TEXT_H_
