// Say: all arguments, as they print themselves, in one string.

#ifndef SHADOWMMU_TESTS_HARNESS_SAY_H_
#define SHADOWMMU_TESTS_HARNESS_SAY_H_

#include <sstream>
#include <string>

namespace shadowmmu::testing {

template <typename... Parts>
std::string Say(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_SAY_H_
