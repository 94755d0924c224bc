// Op-streams as text: the format of docs/op-streams.md, read and written.
//
//  1. ParseStream(PrintStream(x)) == x for every stream that ClampVm leaves as
//     it is and whose story has no newline within a line.
//  2. The parser takes any bytes: it gives a stream or an error that names the
//     line, and never more than kStreamMaxOps ops.
//
// Thread safety: pure functions.

#ifndef SHADOWMMU_TESTS_HARNESS_OP_TEXT_H_
#define SHADOWMMU_TESTS_HARNESS_OP_TEXT_H_

#include <iosfwd>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "tests/harness/ops.h"

namespace shadowmmu::testing {

// InvalidArgument, "line 12: ...", for what is not a stream.
absl::StatusOr<OpStream> ParseStream(std::string_view text);
std::string PrintStream(const OpStream& stream);

// One op as a line, with no newline.
std::string PrintOp(const Op& op);
std::ostream& operator<<(std::ostream& os, const Op& op);

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_OP_TEXT_H_
