// The parts of the boot's self-test (main.cc), and what they use.
//
// Thread safety: one thread.

#ifndef HYPERVISOR_TESTS_BOOT_SELFTEST_SELFTEST_H_
#define HYPERVISOR_TESTS_BOOT_SELFTEST_SELFTEST_H_

#include <string_view>

namespace hypervisor {

// Prints `what` and exits with 1 if it does not hold.
void Expect(bool holds, const char* what);

void TestRuntime();
void TestMemory();
void TestSurvival();
void TestTime();
void TestThreads();

// Each way that is known is the end; returns from the others.
void FailBy(std::string_view way);

}  // namespace hypervisor

#endif  // HYPERVISOR_TESTS_BOOT_SELFTEST_SELFTEST_H_
