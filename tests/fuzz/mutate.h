// How shadowmmu_fuzz changes an input that is text: op by op, so that what
// comes out is a stream again.
//
// Thread safety: pure functions.

#ifndef SHADOWMMU_TESTS_FUZZ_MUTATE_H_
#define SHADOWMMU_TESTS_FUZZ_MUTATE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "tests/harness/ops.h"

namespace shadowmmu::testing {

// Is an input a stream as text? It begins with a comment or with "vm".
bool IsText(std::span<const uint8_t> input);
std::string_view TextOf(std::span<const uint8_t> input);

// A few changes of `stream`, chosen by `seed`: ops go, come, change places and
// change their numbers. The story goes.
OpStream Mutated(const OpStream& stream, uint64_t seed);

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_FUZZ_MUTATE_H_
