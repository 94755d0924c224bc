// Tests that run in every paging mode with tables: the modes, and their names.
//
//   INSTANTIATE_TEST_SUITE_P(Modes, OrphanInEveryMode, kEveryMode, NameOfMode);

#ifndef SHADOWMMU_TESTS_MMU_EVERY_MODE_H_
#define SHADOWMMU_TESTS_MMU_EVERY_MODE_H_

#include <gtest/gtest.h>

#include <cstddef>
#include <string>

#include "tests/harness/guest_tables.h"

namespace shadowmmu::testing {

inline const auto kEveryMode =
    ::testing::Values(GuestMode::kTwoLevel, GuestMode::kPae,
                      GuestMode::kFourLevel, GuestMode::kFiveLevel);

inline std::string NameOfMode(const ::testing::TestParamInfo<GuestMode>& of) {
  constexpr const char* kNames[] = {"TwoLevel", "Pae", "FourLevel",
                                    "FiveLevel"};
  return kNames[static_cast<size_t>(of.param)];
}

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_MMU_EVERY_MODE_H_
