// The shrinker: makes a stream that fails as small as it can.
//
//  1. First ops go, in ever smaller runs (Zeller and Hildebrandt: "Simplifying
//     and isolating failure-inducing input", 2002); then numbers become small;
//     and again, until nothing changes or `most_tries` are used up.
//  2. What it gives still fails. Which failure it is does not matter: a stream
//     that shows another bug is as welcome.
//
// Thread safety: a pure function, as far as `fails` is.

#ifndef SHADOWMMU_TESTS_HARNESS_SHRINKER_H_
#define SHADOWMMU_TESTS_HARNESS_SHRINKER_H_

#include <cstddef>

#include "absl/functional/function_ref.h"
#include "tests/harness/ops.h"

namespace shadowmmu::testing {

using StreamFails = absl::FunctionRef<bool(const OpStream&)>;

// `stream` must fail; `fails` must answer the same for the same stream.
OpStream Shrink(const OpStream& stream, StreamFails fails,
                size_t most_tries = 5000);

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_SHRINKER_H_
