// SlotRules: which errors a slot op may end with, from the public header's word
// alone.
//
// Thread safety: pure functions.

#ifndef SHADOWMMU_TESTS_HARNESS_SLOT_RULES_H_
#define SHADOWMMU_TESTS_HARNESS_SLOT_RULES_H_

#include <vector>

#include "absl/status/status.h"
#include "tests/harness/guest_memory.h"
#include "tests/harness/ops.h"

namespace shadowmmu::testing {

// Everything that is wrong with a slot op, as the codes that it may fail with;
// empty if it must succeed.
std::vector<absl::StatusCode> SlotRefusals(const Op& op,
                                           const GuestMemory& memory,
                                           unsigned guest_physical_bits);

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_SLOT_RULES_H_
